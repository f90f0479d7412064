//! Compiles every `.proto` of `lockstep/v1` with protox, so no `protoc` is needed; also writes the descriptor set for
//! reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=lockstep");
    let mut files = Vec::new();
    for entry in fs::read_dir("lockstep/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("lockstep.v1.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::CheckedCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
