//! Turns a node's panic into a text that says where, without a word on the terminal.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// `None` outside of [`caught`]; inside, what the panic said once there was one.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

static LISTEN: Once = Once::new();

/// Runs `deed`, which nobody uses any more if it panics.
///
/// # Errors
/// It panicked: with what, and where.
pub fn caught<T>(deed: impl FnOnce() -> T) -> Result<T, String> {
    LISTEN.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !hear(info) {
                before(info);
            }
        }));
    });
    HEARD.with_borrow_mut(|heard| *heard = Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(deed));
    let heard = HEARD.take().unwrap_or_default();
    result.map_err(|_| heard)
}

/// Notes a panic inside of [`caught`]; any other one is none of ours.
fn hear(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("with something that is no text");
    let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    HEARD.with_borrow_mut(|heard| {
        let is_ours = heard.is_some();
        if is_ours {
            *heard = Some(format!("panicked{place}: {text}"));
        }
        is_ours
    })
}

#[cfg(test)]
mod tests {
    use super::caught;

    #[test]
    fn a_panic_becomes_a_text_that_says_where() {
        let text = caught(|| -> u8 { panic!("no {}", "way") }).unwrap_err();

        assert!(text.starts_with("panicked at "), "{text}");
        assert!(text.contains("panics.rs") && text.ends_with(": no way"), "{text}");
        assert_eq!(caught(|| 5), Ok(5));
    }
}
