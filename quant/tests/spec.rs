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
        ("fp16:alpha=1", "fp16:alpha=1,beta=1"),
        ("sign:alpha=0", "sign:bucket=512,coding=auto,alpha=0,beta=1"),
        (
            "qsgd:bits=1/2,guard=off,alpha=0.5",
            "qsgd:levels=4,norm=linf,bucket=512,coding=auto,bits=1/2,alpha=0.5,beta=1,guard=off",
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
            "unknown codec \"\"; known codecs: fp32, fp16, bf16, fp8, int8, qsgd, ecq, terngrad,",
        ),
        ("ECQ", "unknown codec"),
        (
            "fp32:levels=4",
            "codec fp32 has no key \"levels\"; its keys: none",
        ),
        (
            "qsgd:fraction=1",
            "its keys: levels, norm, bucket, coding, bits, alpha, beta, guard",
        ),
        (
            "ecq:level=4",
            "its keys: levels, norm, bucket, coding, bits, alpha, beta, guard, preset",
        ),
        ("ecq:levels=4,levels=5", "key \"levels\" stands twice"),
        ("ecq:levels", "\"levels\" is not key=value"),
        ("ecq:levels=4,", "\"\" is not key=value"),
        ("ecq:levels=0", "levels=\"0\": expected 1 to 127"),
        ("ecq:levels=128", "expected 1 to 127"),
        ("ecq:norm=l1", "expected linf or l2"),
        (
            "ecq:bucket=0",
            "expected a number of elements from 1 to 2^32 - 1, or tensor",
        ),
        ("ecq:alpha=1.5", "expected a number from 0 to 1"),
        ("ecq:beta=nan", "expected a number from 0 to 1"),
        ("ecq:coding=zip", "expected auto, pack, rans or golomb"),
        ("ecq:preset=best", "expected safe, paper or one-level"),
        ("qsgd:preset=safe", "codec qsgd has no key \"preset\""),
        ("ecq:bits=1/x", "bits=\"x\": expected bits an element"),
        ("deadzone:step=3.5", "expected a number from 0.01 to 3.4"),
        ("deadzone:levels=127", "at most 126 levels"),
        ("topk:fraction=0", "expected a number above 0"),
        (
            "topk:alpha=0,momentum=0.9",
            "momentum correction needs error feedback",
        ),
        ("randomk:values=sign", "randomk sends values=fp32 or fp16"),
        ("fp8:format=e2m1", "fp8 has format=e4m3 or e5m2"),
        ("powersgd:rank=65", "expected 1 to 64"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn the_grammar_names_every_codec_and_key() {
    let grammar = CodecSpec::grammar();
    for name in CodecSpec::names() {
        assert!(grammar.contains(&format!("\n  {name:<10}")), "{name}");
        let spec = parse(name).expect("defaults are a codec");
        let error = parse(&format!("{name}:?=0")).expect_err("there is no such key");
        let keys = error.split_once("its keys: ").expect("they are named").1;
        for key in keys.split(", ").filter(|key| *key != "none") {
            assert!(grammar.contains(&format!("\n  {key:<11}")), "{name}: {key}");
        }
        assert_eq!(parse(&spec), Ok(spec.clone()), "defaults are canonical");
    }
}
