//! The system's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::driver::Clock;
use crate::model::{Instant, Now, WallTime};

/// Monotonic time since this value was made, and the system's wall clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn start() -> SystemClock {
        SystemClock { start: tokio::time::Instant::now() }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallTime(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Now { mono: Instant(self.start.elapsed()), wall }
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline.and_then(|deadline| self.start.checked_add(deadline.0)) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    async fn wait(&self, duration: Duration) {
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
    }
}
