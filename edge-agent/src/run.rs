//! `edge-agent run`.
