//! stub
use copal_core::*;
use std::time::Duration;
pub(crate) fn restore(_: &dyn Content, _: &RestoreRequest, _: Duration, _: &Context) -> EngineResult<Restored> {
    Err(EngineError::new(EngineErrorKind::Unsupported, "later"))
}
