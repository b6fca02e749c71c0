//! Tests of the local folder.
