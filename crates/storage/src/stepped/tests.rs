//! Tests of stepping.
