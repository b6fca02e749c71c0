//! Tests of fault injection.
