//! The difference between two configurations, for people.

use serde_json::{Map, Value};

use crate::config::{Config, Pool};

/// One line for each thing that is new, gone or different.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let tree = |config: &Config| serde_json::to_value(config).map(named).unwrap_or(Value::Null);
    let mut lines = Vec::new();
    compare("", &tree(old), &tree(new), &mut lines);
    // Of files that probes need, the tree has the names alone.
    for pool in &new.pools {
        let Some(before) = old.pool(&pool.name) else { continue };
        let shown = |pool: &Pool| serde_json::to_value(&pool.health).ok();
        if before.health != pool.health && shown(before) == shown(pool) {
            lines.push(format!(
                "pool.{}.health: a file that it names has other contents",
                pool.name
            ));
        }
    }
    lines
}

/// Lists of things with names become objects by name, so that they are compared by name.
fn named(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, named(value))).collect())
        }
        Value::Array(items)
            if items.iter().all(|item| item["name"].is_string()) && !items.is_empty() =>
        {
            let by_name = items.into_iter().map(|item| {
                let name = item["name"].as_str().unwrap_or_default().to_owned();
                (name, named(item))
            });
            Value::Object(by_name.collect())
        }
        other => other,
    }
}

fn compare(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => compare_fields(path, old, new, lines),
        (Value::Null, new) if is_thing(new) => lines.push(format!("{path}: added")),
        (old, Value::Null) if is_thing(old) => lines.push(format!("{path}: removed")),
        (old, new) => lines.push(format!("{path}: {} -> {}", text(old), text(new))),
    }
}

fn compare_fields(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    lines: &mut Vec<String>,
) {
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let field = |from: &Map<String, Value>| from.get(key).cloned().unwrap_or(Value::Null);
        compare(&path, &field(old), &field(new), lines);
    }
}

fn is_thing(value: &Value) -> bool {
    value.get("name").is_some()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_new_gone_and_different() {
        let text = include_str!("../../../docs/fernpass.toml");
        let old = Config::parse(text, "old").unwrap();
        assert_eq!(changes(&old, &old), Vec::<String>::new());
        let mut new = old.clone();
        new.tenants[0].max_sessions = 13_000;
        let backend = new.pools[0].backends[1].clone();
        new.pools[0].backends.push(crate::config::Backend { name: "wg-9".to_owned(), ..backend });
        new.services.pop();
        assert_eq!(
            changes(&old, &new),
            [
                "pool.wg-justiz.backend.wg-9: added",
                "service.far: removed",
                "tenant.justiz.max_sessions: 12000 -> 13000",
            ]
        );
    }
}
