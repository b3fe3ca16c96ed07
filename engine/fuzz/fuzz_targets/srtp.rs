#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mr_sip_engine_fuzz::srtp(data));
