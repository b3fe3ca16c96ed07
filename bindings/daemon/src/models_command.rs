//! `mr-sip models`: which speech models are there, whether they can be used, and which one is.

use std::io::Write;
use std::path::Path;

use asr::model::{self, Listed};
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::Exit;

/// Lists the models of all folders that are searched; [`Exit::Config`] when the configured one cannot be used.
pub fn run(config: &Config, json: bool) -> Exit {
    let folder = config.models_folder();
    let configured = model::find(&config.asr.model, &folder);
    let listed = model::list(&folder);
    let in_use = configured.as_deref().ok().filter(|_| config.asr.url.is_empty());
    let mut text: String = listed.iter().map(|model| line(model, in_use, json)).collect();
    if listed.is_empty() && !json {
        let folders: Vec<String> =
            model::search_folders(&folder).iter().map(|folder| folder.display().to_string()).collect();
        text = format!("no models in {}\n", folders.join(", "));
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // `mr-sip models | head` is no failure
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("mr-sip: cannot write: {error}");
            return Exit::Error;
        }
        _ => {}
    }
    match configured {
        Err(error) if config.asr.url.is_empty() => {
            eprintln!("mr-sip: asr.model: {error}");
            Exit::Config
        }
        _ => {
            if !config.asr.url.is_empty() {
                eprintln!("mr-sip: none of them is used: {} recognises (asr.url)", config.asr.url);
            }
            Exit::Ok
        }
    }
}

fn line(model: &Listed, in_use: Option<&Path>, json: bool) -> String {
    let used = in_use == Some(model.path.as_path());
    if json {
        let mut value = json!({ "path": model.path, "bytes": model.bytes, "in_use": used });
        let more = match &model.header {
            Ok(header) => json!({
                "usable": true,
                "name": header.size_name(),
                "weights": header.weights_name(),
                "languages": if header.is_multilingual() { "many" } else { "en" },
            }),
            Err(error) => json!({ "usable": false, "error": error.to_string() }),
        };
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        return format!("{value}\n");
    }
    let mark = if used { "*" } else { " " };
    let what = match &model.header {
        Ok(header) => {
            let languages = if header.is_multilingual() { "many languages" } else { "English" };
            format!("{}, {}, {languages}", header.size_name(), header.weights_name())
        }
        Err(error) => format!("cannot be used: {error}"),
    };
    format!("{mark} {} ({:.1} MB): {what}\n", model.path.display(), model.bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_that_is_used_is_marked_and_one_that_is_cut_short_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let whole = model::find(model::BUILT_IN, folder.path()).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        std::fs::write(folder.path().join("half.bin"), &bytes[..bytes.len() / 8]).unwrap();
        std::fs::write(folder.path().join("other.bin"), b"GGUF, of another program, and long enough for a head")
            .unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"no model").unwrap();
        let listed = model::list(folder.path());
        let shown = |name: &str| {
            let model = listed.iter().find(|model| model.path.ends_with(name)).unwrap();
            (line(model, Some(&whole), false), line(model, Some(&whole), true))
        };
        assert!(shown("half.bin").0.contains("cut short"), "{}", shown("half.bin").0);
        assert!(shown("other.bin").0.contains("GGUF"), "{}", shown("other.bin").0);
        assert!(!listed.iter().any(|model| model.path.ends_with("notes.txt")));
        let own = listed.iter().find(|model| model.path == whole).unwrap();
        assert!(line(own, Some(&whole), false).starts_with("* "), "{}", line(own, Some(&whole), false));
        let json: Value = serde_json::from_str(&line(own, Some(&whole), true)).unwrap();
        assert_eq!(
            (&json["usable"], &json["weights"], &json["languages"]),
            (&json!(true), &json!("q8_0"), &json!("en"))
        );
        let json: Value = serde_json::from_str(&shown("half.bin").1).unwrap();
        assert_eq!(json["usable"], json!(false));
    }
}
