//! Lists of frames on disk, with ids and capture times.
