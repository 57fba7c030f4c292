//! `edge-agent check`.
