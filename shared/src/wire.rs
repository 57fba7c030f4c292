//! Messages over QUIC streams.
