//! What the connections count, for `/metrics`. Names end up there, so they stay.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One thing that is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Count { $($(#[$doc])* $name,)* }

        const NAMES: &[&str] = &[$($text,)*];
    };
}

counters! {
    /// Connections that this node dialed and that came up.
    Dialed = "peer_connections_dialed",
    /// Connections that peers dialed and that came up.
    Accepted = "peer_connections_accepted",
    /// Connections that ended.
    Closed = "peer_connections_closed",
    /// Dials that reached nobody.
    DialFailed = "peer_dials_failed",
    /// Dials that a peer refused, or whose answer this node refused.
    DialRefused = "peer_dials_refused",
    /// Frames handed to the system.
    FramesOut = "peer_frames_out",
    /// Frames taken by the loop's queue.
    FramesIn = "peer_frames_in",
    /// Bytes of the frames out.
    BytesOut = "peer_bytes_out",
    /// Bytes of the frames out that compression spared; they are not counted among the bytes out.
    BytesSpared = "peer_bytes_out_spared",
    /// Bytes of the frames in.
    BytesIn = "peer_bytes_in",
    /// Frames dropped because a peer's queue was full.
    DroppedFull = "peer_frames_dropped_queue_full",
    /// Frames dropped because the peer could not be reached just now.
    DroppedUnreachable = "peer_frames_dropped_unreachable",
    /// Frames that are none; each ended its connection, or was dropped by the loop.
    Malformed = "peer_frames_malformed",
    /// Connections ended because the peer was silent or took nothing.
    TimedOut = "peer_connections_timed_out",
    /// Upgrades refused: not for peers, or not in a form we know.
    RefusedMalformed = "peer_refused_malformed_handshake",
    /// Upgrades refused: another version of the protocol.
    RefusedVersion = "peer_refused_protocol_version",
    /// Upgrades refused: no secret here, and not from this host.
    RefusedNeedsSecret = "peer_refused_peers_need_secret",
    /// Upgrades refused: no certificate of the cluster's authority.
    RefusedCertificate = "peer_refused_peers_need_certificate",
    /// Upgrades refused: another secret.
    RefusedSecret = "peer_refused_wrong_secret",
    /// Upgrades refused: it was this very node.
    RefusedSelf = "peer_refused_self",
    /// Upgrades refused: another node with this node's id.
    RefusedId = "peer_refused_id_taken",
    /// Upgrades refused: another node that says it is reached where this one, or a connected one, is.
    RefusedAddress = "peer_refused_address_taken",
    /// Upgrades refused: too many connections, or this node is stopping.
    RefusedBusy = "peer_refused_busy",
}

/// The counts since the start.
#[derive(Debug)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Counters {
        Counters(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Counts one more.
    pub fn one(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts one more; whether it is the first, and so worth a line in the log.
    pub fn first(&self, what: Count) -> bool {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Counts `more`.
    pub fn add(&self, what: Count, more: u64) {
        self.0[what as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// One count.
    #[cfg(test)]
    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// Every count by name.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        NAMES.iter().zip(&self.0).map(|(name, count)| (*name, count.load(Ordering::Relaxed))).collect()
    }
}
