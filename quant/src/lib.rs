//! Numbers to fewer bits: quantizers, error feedback, entropy coding and the frame format.
