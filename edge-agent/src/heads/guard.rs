//! Code that may panic, and must not take the agent with it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the head's code panicked: {0}")]
pub struct Panicked(String);

/// Runs `work`; a panic in it is an error. What `work` borrows must stay usable: heads are immutable.
///
/// # Errors
/// [`Panicked`], with what was said.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|said| Panicked(words(&*said)))
}

fn words(said: &(dyn Any + Send)) -> String {
    let text = said.downcast_ref::<&str>().copied();
    let text = text.or_else(|| said.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        assert_eq!(guarded(|| 7), Ok(7));
        let zero = std::hint::black_box(0);
        let error = guarded(|| 1 / zero).unwrap_err().to_string();
        assert!(error.contains("panicked: attempt to divide by zero"), "{error}");
        assert!(guarded(|| panic!("at {zero}")).unwrap_err().to_string().ends_with("at 0"));
    }
}
