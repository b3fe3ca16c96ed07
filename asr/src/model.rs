//! Finding a speech model and looking at its file before whisper.cpp does.
//!
//! whisper.cpp trusts what it loads: a truncated or foreign file ends in an abort deep inside C++. So the header and
//! the size are checked here, and every refusal is a sentence that says what to do.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::AsrError;

/// The model that this repository trains and ships: telephone English of a small vocabulary, for demo and tests.
pub const BUILT_IN: &str = "telephone-en";
const BUILT_IN_FILE: &str = "telephone-en-q8_0.bin";

/// Models of the whisper.cpp project, as `ggml-NAME.bin`; each also as `NAME-q5_0`, `NAME-q5_1` and `NAME-q8_0`.
const KNOWN: [&str; 12] = [
    "tiny",
    "tiny.en",
    "base",
    "base.en",
    "small",
    "small.en",
    "medium",
    "medium.en",
    "large-v1",
    "large-v2",
    "large-v3",
    "large-v3-turbo",
];
const QUANTISATIONS: [&str; 3] = ["-q5_0", "-q5_1", "-q8_0"];

/// Environment variable that names a folder to search after the configured one.
pub const MODELS_VARIABLE: &str = "MR_SIP_MODELS";

/// The ggml magic number, first four bytes (little endian) of every Whisper model of whisper.cpp.
const MAGIC: u32 = 0x6767_6d6c;
/// The magic of GGUF files, which llama.cpp reads and whisper.cpp does not.
const GGUF_MAGIC: u32 = 0x4655_4747;

/// The eleven numbers at the head of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Rows of the token embedding: 51864 English-only, 51865 and 51866 multilingual.
    pub vocabulary: u32,
    /// Encoder positions of 20 ms; 1500 in every known model.
    pub audio_context: u32,
    /// Width of the encoder.
    pub audio_width: u32,
    /// Heads of the encoder.
    pub audio_heads: u32,
    /// Layers of the encoder.
    pub audio_layers: u32,
    /// Decoder positions: 448 in stock models, 128 in the one made here.
    pub text_context: u32,
    /// Width of the decoder.
    pub text_width: u32,
    /// Heads of the decoder.
    pub text_heads: u32,
    /// Layers of the decoder.
    pub text_layers: u32,
    /// Mel bands: 80, or 128 from large-v3 on.
    pub mels: u32,
    /// ggml's number of the weights' type.
    pub file_type: u32,
}

/// Finds the file of a model.
///
/// `name_or_path` is a path, a file's name in `folder`, or a known name: `telephone-en` (made here), `tiny.en`,
/// `base`, `small-q8_0`, `large-v3-turbo`, ... (whisper.cpp's, as `ggml-NAME.bin`). After `folder`, the folders of
/// [`search_folders`] are tried.
///
/// # Errors
/// [`AsrError::ModelNotFound`] says what to download and where to put it; [`AsrError::BadModel`] names a file that is
/// there but can't be used.
pub fn find(name_or_path: &str, folder: &Path) -> Result<PathBuf, AsrError> {
    let name = name_or_path.trim();
    let as_path = Path::new(name);
    if as_path.is_absolute() || name.contains('/') {
        let path = as_path.to_path_buf();
        if !path.is_file() {
            return Err(AsrError::ModelNotFound {
                name: name.into(),
                advice: "there is no such file; check the path".into(),
                searched: path.parent().unwrap_or(Path::new("/")).display().to_string(),
            });
        }
        check(&path)?;
        return Ok(path);
    }

    let files = candidate_files(name);
    let folders = search_folders(folder);
    for folder in &folders {
        for file in &files {
            let path = folder.join(file);
            if path.is_file() {
                check(&path)?;
                return Ok(path);
            }
        }
    }
    let searched = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(AsrError::ModelNotFound { name: name.into(), advice: advice(name, folder), searched })
}

/// The folders that [`find`] looks into, in order: the configured one, `$MR_SIP_MODELS`, `share/mr-sip/models` beside
/// the binary's folder, the system's, and the source tree that this was built from.
pub fn search_folders(configured: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut push = |folder: PathBuf| {
        if !folder.as_os_str().is_empty() && !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    push(configured.to_path_buf());
    if let Some(folder) = std::env::var_os(MODELS_VARIABLE) {
        push(folder.into());
    }
    if let Some(prefix) = std::env::current_exe().ok().as_deref().and_then(Path::parent).and_then(Path::parent) {
        push(prefix.join("share/mr-sip/models"));
    }
    push("/usr/local/share/mr-sip/models".into());
    push("/usr/share/mr-sip/models".into());
    push(Path::new(env!("CARGO_MANIFEST_DIR")).join("model"));
    folders
}

/// A file that looks like a model.
#[derive(Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What its header says, or why it can't be used.
    pub header: Result<Header, AsrError>,
}

/// More files of a folder are not looked at.
const MOST_FILES: usize = 1_000;

/// All files named `*.bin` or `*.gguf` in the folders that [`find`] searches, in that order, each looked at.
pub fn list(folder: &Path) -> Vec<Listed> {
    let mut listed = Vec::new();
    for folder in search_folders(folder) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().take(MOST_FILES).map(|entry| entry.path()).collect();
        let is_model = |path: &PathBuf| path.extension().is_some_and(|end| end == "bin" || end == "gguf");
        paths.retain(|path| is_model(path) && path.is_file());
        paths.sort();
        for path in paths {
            let bytes = path.metadata().map_or(0, |data| data.len());
            listed.push(Listed { header: check(&path), bytes, path });
        }
    }
    listed
}

/// Reads a model's header and checks what can be checked without loading it.
///
/// # Errors
/// [`AsrError::BadModel`], with what is wrong and what to do.
pub fn check(path: &Path) -> Result<Header, AsrError> {
    let bad = |reason: String| AsrError::BadModel { path: path.to_path_buf(), reason };
    let mut file = File::open(path).map_err(|e| bad(format!("it can't be opened: {e}")))?;
    let size = file.metadata().map_err(|e| bad(format!("its size can't be read: {e}")))?.len();
    let mut head = [0u8; 48];
    match file.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(bad(format!("it has only {size} bytes; download it again")));
        }
        Err(e) => return Err(bad(format!("it can't be read: {e}"))),
        Ok(()) => {}
    }
    let number = |i: usize| u32::from_le_bytes([head[4 * i], head[4 * i + 1], head[4 * i + 2], head[4 * i + 3]]);
    match number(0) {
        MAGIC => {}
        GGUF_MAGIC => {
            return Err(bad("it is a GGUF file, which whisper.cpp does not read; use the project's ggml-*.bin".into()));
        }
        _ if head.starts_with(b"version https://git-lfs") => {
            return Err(bad("it is only a Git LFS pointer; fetch the real file".into()));
        }
        _ if head.starts_with(b"<") || head.starts_with(b"PK") => {
            return Err(bad("it is a web page or an archive, not a model; download it again".into()));
        }
        other => {
            return Err(bad(format!(
                "it does not begin with ggml's magic number (0x{MAGIC:08x}, but 0x{other:08x}); give a ggml-*.bin of whisper.cpp"
            )));
        }
    }
    let header = Header {
        vocabulary: number(1),
        audio_context: number(2),
        audio_width: number(3),
        audio_heads: number(4),
        audio_layers: number(5),
        text_context: number(6),
        text_width: number(7),
        text_heads: number(8),
        text_layers: number(9),
        mels: number(10),
        file_type: number(11),
    };
    let sane = (51_864..=51_900).contains(&header.vocabulary)
        && (1..=1500).contains(&header.audio_context)
        && (32..=4096).contains(&header.audio_width)
        && header.audio_width == header.text_width
        && header.audio_width.is_multiple_of(32)
        && (1..=64).contains(&header.audio_heads)
        && (1..=64).contains(&header.audio_layers)
        && (32..=4096).contains(&header.text_context)
        && (1..=64).contains(&header.text_heads)
        && (1..=64).contains(&header.text_layers)
        && header.audio_width.is_multiple_of(header.audio_heads)
        && header.text_width.is_multiple_of(header.text_heads)
        && matches!(header.mels, 80 | 128);
    if !sane {
        return Err(bad(format!("its header makes no sense ({header:?}); download it again")));
    }
    // the convolutions of such a file are f32 too, on which ggml's CPU code aborts the whole process
    if header.file_type == 0 {
        return Err(bad(
            "its weights are f32, which whisper.cpp can't compute on a CPU; give one of f16 or q8_0".into()
        ));
    }
    let least = header.least_bytes();
    if size < least {
        return Err(bad(format!("it is cut short ({size} bytes of at least {least}); download it again")));
    }
    Ok(header)
}

impl Header {
    /// Bytes that a file with this header has at least: the layers' matrices, the embeddings and the encoder's
    /// positions, at their type's size. Biases, norms and the vocabulary come on top, so a whole file is larger.
    fn least_bytes(&self) -> u64 {
        let [vocabulary, width, audio_layers, text_layers, text_context, audio_context] = [
            self.vocabulary,
            self.audio_width,
            self.audio_layers,
            self.text_layers,
            self.text_context,
            self.audio_context,
        ]
        .map(u64::from);
        // a layer's matrices: attention 4 w², feed-forward 8 w², and 4 w² more for the decoder's cross attention
        let weights = width * width * (12 * audio_layers + 16 * text_layers) + vocabulary * width;
        // ggml's file types (after quantisation version * 1000): 0 f32, 1 f16, 2 q4_0, 3 q4_1, 7 q8_0, 8 q5_0, 9 q5_1;
        // anything else is not smaller than 2.5 bits
        let bits_x2 = match self.file_type % 1000 {
            0 => 64,
            1 => 32,
            2 => 9,
            3 => 10,
            7 => 17,
            8 => 11,
            9 => 12,
            _ => 5,
        };
        weights * bits_x2 / 16 + width * (text_context + audio_context) * 2
    }

    /// The name of a model of this shape: `tiny`, `large-v3`, ...
    pub fn size_name(&self) -> &'static str {
        match (self.audio_layers, self.text_layers, self.mels) {
            _ if self.is_own() => BUILT_IN,
            (4, ..) => "tiny",
            (6, ..) => "base",
            (12, ..) => "small",
            (24, ..) => "medium",
            (32, 4, _) => "large-v3-turbo",
            (32, _, 128) => "large-v3",
            (32, ..) => "large",
            _ => "of another shape",
        }
    }

    /// The type of the weights: `f16`, `q8_0`, ...
    pub fn weights_name(&self) -> &'static str {
        match self.file_type % 1000 {
            1 => "f16",
            2 => "q4_0",
            3 => "q4_1",
            7 => "q8_0",
            8 => "q5_0",
            9 => "q5_1",
            _ => "other weights",
        }
    }

    /// Whether it knows more languages than English.
    pub fn is_multilingual(&self) -> bool {
        self.vocabulary > 51_864
    }

    /// Whether this is a model of this repository's own making, trained with a cut audio context.
    ///
    /// Stock models all have a text context of 448.
    pub fn is_own(&self) -> bool {
        self.text_context <= 128
    }
}

fn candidate_files(name: &str) -> Vec<String> {
    if name.is_empty() || name == BUILT_IN || name == BUILT_IN_FILE {
        return vec![BUILT_IN_FILE.into()];
    }
    let mut files = vec![name.to_string()];
    if !name.ends_with(".bin") {
        files.push(format!("ggml-{name}.bin"));
        files.push(format!("{name}.bin"));
    }
    files
}

/// Whether whisper.cpp publishes a model under this name (`base.en`, `small-q8_0`, `ggml-tiny.bin`, ...).
pub fn is_known(name: &str) -> bool {
    let name = name.strip_prefix("ggml-").unwrap_or(name);
    let name = name.strip_suffix(".bin").unwrap_or(name);
    let plain = QUANTISATIONS.iter().find_map(|q| name.strip_suffix(q)).unwrap_or(name);
    KNOWN.contains(&plain)
}

fn advice(name: &str, folder: &Path) -> String {
    if name.is_empty() || name.starts_with(BUILT_IN) {
        return format!(
            "it comes with the source tree as asr/model/{BUILT_IN_FILE}; copy it into {} or set {MODELS_VARIABLE}",
            folder.display()
        );
    }
    let short = name.strip_prefix("ggml-").unwrap_or(name);
    let short = short.strip_suffix(".bin").unwrap_or(short);
    if is_known(name) {
        format!(
            "run \"scripts/fetch_model.sh {short}\", or download ggml-{short}.bin from ggerganov/whisper.cpp on Hugging Face into {}",
            folder.display()
        )
    } else {
        format!(
            "put the file into {}, or name one of {BUILT_IN}, {} (as they are, or with -q5_0, -q5_1, -q8_0)",
            folder.display(),
            KNOWN.join(", ")
        )
    }
}
