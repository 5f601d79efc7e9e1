//! Codecs as people write them.

use ecq_quant::CodecSpec;

fn parse(text: &str) -> Result<String, String> {
    text.parse::<CodecSpec>()
        .map(|spec| spec.to_string())
        .map_err(|error| error.to_string())
}

#[test]
fn every_spec_has_one_canonical_form() {
    for (text, canonical) in [
        ("fp32", "fp32"),
        ("fp16:", "fp16"),
        ("qsgd", "qsgd:levels=4,norm=linf,bucket=512,coding=auto"),
        (
            "qsgd:bucket=tensor,levels=127",
            "qsgd:levels=127,norm=linf,bucket=tensor,coding=auto",
        ),
        (
            "ecq",
            "ecq:levels=4,norm=linf,bucket=512,coding=auto,alpha=1,beta=1",
        ),
        (
            "ecq:preset=safe",
            "ecq:levels=4,norm=linf,bucket=512,coding=auto,alpha=1,beta=1",
        ),
        (
            "ecq:preset=paper",
            "ecq:levels=4,norm=l2,bucket=512,coding=auto,alpha=0.2,beta=0.9",
        ),
        (
            "ecq:levels=2,preset=one-level,coding=rans",
            "ecq:levels=2,norm=linf,bucket=512,coding=rans,alpha=0.38,beta=1",
        ),
        (
            "ecq:levels=4,norm=linf,bucket=512,alpha=1,beta=1,coding=pack",
            "ecq:levels=4,norm=linf,bucket=512,coding=pack,alpha=1,beta=1",
        ),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
        assert_eq!(
            parse(canonical).as_deref(),
            Ok(canonical),
            "it is a fixed point"
        );
    }
}

#[test]
fn mistakes_say_what_is_known() {
    for (text, expected) in [
        (
            "",
            "unknown codec \"\"; known codecs: fp32, fp16, qsgd, ecq",
        ),
        ("ECQ", "unknown codec"),
        (
            "fp32:levels=4",
            "codec fp32 has no key \"levels\"; its keys: none",
        ),
        ("qsgd:beta=1", "its keys: levels, norm, bucket, coding"),
        (
            "ecq:level=4",
            "its keys: levels, norm, bucket, alpha, beta, coding, preset",
        ),
        ("ecq:levels=4,levels=5", "key \"levels\" stands twice"),
        ("ecq:levels", "\"levels\" is not key=value"),
        ("ecq:levels=4,", "\"\" is not key=value"),
        ("ecq:levels=0", "levels=\"0\": expected 1 to 127"),
        ("ecq:levels=128", "expected 1 to 127"),
        ("ecq:norm=l1", "expected linf or l2"),
        (
            "ecq:bucket=0",
            "expected a number of elements from 1, or tensor",
        ),
        ("ecq:alpha=1.5", "expected a number from 0 to 1"),
        ("ecq:beta=nan", "expected a number from 0 to 1"),
        ("ecq:coding=zip", "expected auto, pack or rans"),
        ("ecq:preset=best", "expected safe, paper or one-level"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}
