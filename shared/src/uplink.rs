//! What the agent does to a frame before sending it.
