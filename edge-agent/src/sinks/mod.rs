//! Where answers go.
