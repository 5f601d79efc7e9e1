#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ecq_quant_fuzz::codec(data));
