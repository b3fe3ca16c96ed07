//! The whole protocol as JSON Schema, made from the types themselves: what `mr-sip api` prints.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::error::{ApiError, ErrorCode};
use super::event::Event;
use super::method::{Method, PROTOCOL};

/// Every method with its parameters and result, every event and every error, for programs that make clients or check messages.
///
/// `{"protocol", "methods": {NAME: {"params", "result"}}, "events": {NAME: SCHEMA}, "errors": {CODE: TEXT}, "error", "$defs"}`; the
/// schemas are JSON Schema 2020-12 and refer to `$defs`. Bounds of numbers and lengths of texts that depend on more than the
/// field itself stand in PROTOCOL.md only.
pub fn protocol_schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let methods: Map<String, Value> = Method::schemas(&mut generator)
        .into_iter()
        .map(|(name, params, result)| (name.to_owned(), json!({ "params": params, "result": result })))
        .collect();
    let events = events(&mut generator);
    let error = generator.subschema_for::<ApiError>();
    let errors: Map<String, Value> =
        ErrorCode::ALL.iter().map(|code| ((*code as i32).to_string(), Value::from(code.meaning()))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The control protocol of mr-sip",
        "protocol": PROTOCOL,
        "methods": methods,
        "events": events,
        "errors": errors,
        "error": error,
        "$defs": generator.take_definitions(true),
    })
}

/// The parameters of each event. In all of them is `time_ms` too: milliseconds since the call's media began, or null.
fn events(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let event: Schema = generator.root_schema_for::<Event>();
    let variants = event.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    variants
        .into_iter()
        .filter_map(|variant| {
            let properties = variant.get("properties")?;
            let name = properties.get("method")?.get("const")?.as_str()?.to_owned();
            let mut params = properties.get("params").cloned().unwrap_or_else(|| json!({ "type": "object" }));
            if let (Some(params), Some(text)) = (params.as_object_mut(), variant.get("description")) {
                params.entry("description").or_insert_with(|| text.clone());
            }
            Some((name, params))
        })
        .collect()
}
