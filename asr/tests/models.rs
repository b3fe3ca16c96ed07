//! Finding a model, refusing what is none, and the script that fetches one.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use mr_sip_asr::{AsrError, model};
use tempfile::TempDir;

/// A file of `size` bytes with the header of a tiny model of our own shape.
fn model_file(folder: &Path, name: &str, size: usize) -> PathBuf {
    let header: [u32; 12] = [0x6767_6d6c, 51_864, 1_500, 64, 4, 1, 128, 64, 4, 1, 80, 7];
    let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.resize(size, 0);
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

const WHOLE: usize = 4_500_000;

#[test]
fn a_model_is_found_by_path_by_file_and_by_known_name() {
    let folder = TempDir::new().unwrap();
    let path = model_file(folder.path(), "ggml-tiny.en.bin", WHOLE);
    for name in [path.to_str().unwrap(), "ggml-tiny.en.bin", "tiny.en", "ggml-tiny.en", " tiny.en "] {
        assert_eq!(model::find(name, folder.path()).unwrap(), path, "{name}");
    }
    let own = model_file(folder.path(), "mine.bin", WHOLE);
    assert_eq!(model::find("mine", folder.path()).unwrap(), own);
}

#[test]
fn a_missing_model_says_in_one_sentence_what_to_download_and_where_to_put_it() {
    let folder = TempDir::new().unwrap();
    let error = model::find("small-q8_0", folder.path()).unwrap_err();
    assert!(matches!(error, AsrError::ModelNotFound { .. }));
    let sentence = error.to_string();
    for part in [
        "small-q8_0",
        "ggml-small-q8_0.bin",
        "ggerganov/whisper.cpp",
        "scripts/fetch_model.sh small-q8_0",
        folder.path().to_str().unwrap(),
    ] {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
    assert!(!sentence.contains('\n'));
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let folder = TempDir::new().unwrap();
    let sentence = model::find("hueg", folder.path()).unwrap_err().to_string();
    assert!(sentence.contains("large-v3-turbo") && sentence.contains("telephone-en"), "{sentence}");
    let sentence = model::find("/no/such/file.bin", folder.path()).unwrap_err().to_string();
    assert!(sentence.contains("no such file"), "{sentence}");
}

#[test]
fn files_that_are_no_model_are_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let cases: [(&[u8], &str); 5] = [
        (b"", "0 bytes"),
        (b"lmgg", "4 bytes"),
        (b"<!DOCTYPE html><html><body>404 not found, sorry about that</body>", "web page"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789", "LFS"),
    ];
    for (content, reason) in cases {
        let path = folder.path().join("ggml-base.bin");
        fs::write(&path, content).unwrap();
        let error = model::find("base", folder.path()).unwrap_err();
        assert!(matches!(error, AsrError::BadModel { .. }));
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_model_that_is_cut_short_is_refused_before_whisper_sees_it() {
    let folder = TempDir::new().unwrap();
    let path = model_file(folder.path(), "short.bin", 1_000_000);
    let error = model::find("short.bin", folder.path()).unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
    // and one that is long enough, but empty inside, is refused by whisper.cpp, not crashed on
    fs::remove_file(path).unwrap();
    let path = model_file(folder.path(), "hollow.bin", WHOLE);
    let error = mr_sip_asr::transcribe_offline(&path, &[0.0; 16_000]).unwrap_err();
    assert!(matches!(error, AsrError::BadModel { .. }), "{error}");
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = model_file(folder.path(), "odd.bin", WHOLE);
    let whole = fs::read(&path).unwrap();
    for field in 1..=10 {
        for value in [0u32, 7, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[4 * field..4 * field + 4].copy_from_slice(&value.to_le_bytes());
            fs::write(&path, &bytes).unwrap();
            // some small numbers are possible; none may panic or overflow
            let _ = model::check(&path);
            if value != 7 {
                assert!(model::check(&path).is_err(), "field {field} = {value}");
            }
        }
    }
}

/// whisper.cpp would abort the process at the first utterance.
#[test]
fn a_model_of_f32_weights_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = model_file(folder.path(), "wide.bin", 4 * WHOLE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[44..48].fill(0);
    fs::write(&path, bytes).unwrap();
    let error = model::check(&path).unwrap_err().to_string();
    assert!(error.contains("f32"), "{error}");
}

/// A web server of Python's, on a port of the system's choice.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is needed for this test");
        // "Serving HTTP on 127.0.0.1 port 40123 (http://...) ..."
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("{line:?}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fetch(server: &Server, name: &str, into: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch_model.sh");
    Command::new("bash")
        .arg(script)
        .arg(name)
        .arg(into)
        .env("MR_SIP_MODEL_URL", format!("http://127.0.0.1:{}/models/", server.port))
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap()
}

#[test]
fn the_script_fetches_a_model_that_is_then_found() {
    let site = TempDir::new().unwrap();
    fs::create_dir(site.path().join("models")).unwrap();
    model_file(&site.path().join("models"), "ggml-tiny.en.bin", WHOLE);
    fs::write(site.path().join("models/ggml-page.bin"), "<html>no</html>").unwrap();
    let server = Server::start(site.path());
    let models = TempDir::new().unwrap();
    let folder = models.path().join("not/there/yet");

    let fetched = fetch(&server, "tiny.en", &folder);
    let said = String::from_utf8_lossy(&fetched.stdout).into_owned();
    assert!(fetched.status.success(), "{said}{}", String::from_utf8_lossy(&fetched.stderr));
    assert!(said.contains("sha256") && said.contains(&WHOLE.to_string()), "{said}");
    assert_eq!(model::find("tiny.en", &folder).unwrap(), folder.join("ggml-tiny.en.bin"));

    let again = fetch(&server, "tiny.en", &folder);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("already"));

    for (name, complaint) in
        [("no-such", "could not download"), ("page", "no Whisper model"), ("../x", "no model's name")]
    {
        let failed = fetch(&server, name, &folder);
        assert!(!failed.status.success(), "{name}");
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(said.contains(complaint), "{name}: {said}");
    }
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["ggml-tiny.en.bin"], "failures leave nothing behind");
}

#[test]
fn the_script_begins_anew_where_a_server_cannot_go_on_with_what_is_half_there() {
    let site = TempDir::new().unwrap();
    fs::create_dir(site.path().join("models")).unwrap();
    let whole = model_file(&site.path().join("models"), "ggml-base.bin", WHOLE);
    let server = Server::start(site.path());
    let models = TempDir::new().unwrap();
    // Python's server knows no ranges: the whole must not end up behind the half
    fs::write(models.path().join("ggml-base.bin.part"), &fs::read(&whole).unwrap()[..1_000_000]).unwrap();
    let fetched = fetch(&server, "base", models.path());
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let got = models.path().join("ggml-base.bin");
    assert_eq!(fs::read(got).unwrap(), fs::read(whole).unwrap());
}
