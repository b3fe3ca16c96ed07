//! The schema that `mr-sip api` prints says the same as PROTOCOL.md and the types.

use std::collections::{BTreeMap, BTreeSet};

use mr_sip_control::types::{Method, protocol_schema};
use serde_json::{Map, Value};

fn examples() -> Vec<Value> {
    let mut examples = Vec::new();
    let mut inside = false;
    for line in include_str!("../PROTOCOL.md").lines() {
        match line {
            "```json" => inside = true,
            "```" => inside = false,
            text if inside => examples.push(serde_json::from_str(text).unwrap()),
            _ => {}
        }
    }
    examples
}

/// As much of JSON Schema as the types need: what is said of a value that does not fit, `None` of one that does.
fn misfit(schema: &Value, value: &Value, all: &Value, path: &str) -> Option<String> {
    let schema = match schema {
        Value::Bool(true) => return None,
        Value::Object(schema) => schema,
        other => return Some(format!("{path}: {other} is no schema")),
    };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let definition = name.strip_prefix("#/$defs/").and_then(|name| all["$defs"].get(name));
        match definition {
            Some(definition) => {
                if let Some(why) = misfit(definition, value, all, path) {
                    return Some(why);
                }
            }
            None => return Some(format!("{path}: {name} is not there")),
        }
    }
    for (word, wanted) in [("oneOf", 1), ("anyOf", 0)] {
        if let Some(choices) = schema.get(word).and_then(Value::as_array) {
            let fits = choices.iter().filter(|choice| misfit(choice, value, all, path).is_none()).count();
            if fits == 0 || (wanted == 1 && fits != 1) {
                return Some(format!("{path}: {fits} of {word} fit {value}"));
            }
        }
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        return Some(format!("{path}: {value} is not {}", schema["const"]));
    }
    if schema.get("enum").and_then(Value::as_array).is_some_and(|allowed| !allowed.contains(value)) {
        return Some(format!("{path}: {value} is none of {}", schema["enum"]));
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => value.is_null(),
    };
    if !types.is_empty() && !types.iter().any(|kind| is(kind)) {
        return Some(format!("{path}: {value} is no {types:?}"));
    }
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    if let Some(fields) = value.as_object() {
        for needed in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(needed) {
                return Some(format!("{path}: `{needed}` is missing"));
            }
        }
        for (name, field) in fields {
            if let Some(schema) = properties.get(name)
                && let Some(why) = misfit(schema, field, all, &format!("{path}.{name}"))
            {
                return Some(why);
            }
        }
    }
    value.as_array().and_then(|items| {
        schema.get("items").and_then(|schema| items.iter().find_map(|item| misfit(schema, item, all, path)))
    })
}

#[test]
fn every_example_of_the_specification_fits_the_schema() {
    let schema = protocol_schema();
    let mut asked = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for example in examples() {
        let method = example["method"].as_str();
        if let (Some(method), Some(id)) = (method, example.get("id")) {
            let why = misfit(&schema["methods"][method]["params"], &example["params"], &schema, method);
            assert_eq!(why, None, "{example}");
            asked.insert(id.to_string(), method.to_owned());
            seen.insert(method.to_owned());
        } else if let Some(event) = method {
            let why = misfit(&schema["events"][event], &example["params"], &schema, event);
            assert_eq!(why, None, "{example}");
            seen.insert(event.to_owned());
        } else if let Some(result) = example.get("result") {
            // an answer stands right after its request; some numbers come twice
            let method = &asked[&example["id"].to_string()];
            assert_eq!(misfit(&schema["methods"][method]["result"], result, &schema, method), None, "{example}");
        } else {
            assert_eq!(misfit(&schema["error"], &example["error"], &schema, "error"), None, "{example}");
            assert!(schema["errors"].get(example["error"]["code"].to_string()).is_some());
        }
    }
    let described: BTreeSet<String> =
        ["methods", "events"].iter().flat_map(|kind| schema[kind].as_object().unwrap().keys().cloned()).collect();
    assert_eq!(described, seen, "what is described is what has an example");
    assert_eq!(schema["methods"].as_object().unwrap().len(), Method::NAMES.len());
}

#[test]
fn what_does_not_fit_is_seen() {
    let schema = protocol_schema();
    for (method, params) in [
        ("call.dial", r#"{}"#),
        ("call.dial", r#"{"to":7}"#),
        ("call.bridge", r#"{"call":"c1","other_call":"c2","mode":"shout"}"#),
        ("call.hangup", r#"{"call":null}"#),
        ("audio.effects", r#"{"call":"c1","direction":"nobody"}"#),
    ] {
        let params: Value = serde_json::from_str(params).unwrap();
        assert!(misfit(&schema["methods"][method]["params"], &params, &schema, method).is_some(), "{method} {params}");
    }
}

#[test]
fn every_method_event_and_field_is_described() {
    let schema = protocol_schema();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        assert!(definition["description"].is_string(), "{name}");
        for (field, schema) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            assert!(schema.get("description").is_some(), "{name}.{field}");
        }
    }
    for (name, event) in schema["events"].as_object().unwrap() {
        assert!(event["description"].is_string(), "{name}");
    }
}
