//! The log: frames, segments, group commit, reading, and the decision where it ends.
