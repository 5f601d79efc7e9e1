//! Compiles the protobuf with a compiler in Rust, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["ecq/v1/coordinator.proto", "ecq/v1/exchange.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        // Frames and models are megabytes: they are passed on without a copy.
        .bytes(".ecq.v1.FrameChunk.data")
        .bytes(".ecq.v1.ModelChunk.data")
        .bytes(".ecq.v1.SnapshotChunk.data")
        .compile_fds(descriptors)?;
    Ok(())
}
