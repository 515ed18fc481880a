//! What a service manager is told: ready, stopping, and that the loop still answers. Nothing without systemd.

use std::time::Duration;

use reknit::driver::Mailbox;
use reknit::model::Request;
use sd_notify::NotifyState;
use tokio::time::{sleep, timeout};

/// The port is open and the data is there.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// No more requests are taken.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the watchdog, where there is one, that the node's loop answers. Ends with it.
pub async fn watch(mailbox: Mailbox) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let pause = limit / 3;
    loop {
        match timeout(pause.max(Duration::from_millis(1)), mailbox.ask(Request::Status)).await {
            Ok(Ok(_)) => tell(NotifyState::Watchdog),
            // Busy or stuck: the next attempt shows which.
            Err(_) => {}
            Ok(Err(reknit::driver::NoAnswer::Stopped)) => return,
            Ok(Err(reknit::driver::NoAnswer::Busy)) => {}
        }
        sleep(pause).await;
    }
}

fn tell(state: NotifyState<'_>) {
    // Without a service manager there is nobody to tell.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(event = "not-notified", "{error}");
    }
}
