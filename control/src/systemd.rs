//! What systemd is told, where it asks (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;

/// For how long a step of what takes long may last. A whole scan of the largest table takes seconds.
const STEP: Duration = Duration::from_secs(60);

/// Tells it.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {e}");
    }
}

/// Tells it that a step of something long is done, and that the next one may take its time: at a start, and while the daemon's
/// loop does not turn for it.
pub(crate) fn at_work() {
    // First: it sets the watchdog's usual patience again.
    if sd_notify::watchdog_enabled().is_some() {
        notify(&[NotifyState::Watchdog]);
    }
    notify(&[NotifyState::ExtendTimeoutUsec(STEP.as_micros() as u32)]);
}
