//! The table of what requests may say; `agent/core/src/catalog/requests.rs` tells its format.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Document, DocumentMethod, Schema};

pub(super) fn text(documents: &[Document]) -> String {
    let mut text = String::from("#holdpoint-requests 1\n");
    for document in documents {
        let common: Vec<_> = document.parameters.keys().map(String::as_str).collect();
        text += &format!("={}\n", common.join(","));
        let methods = document.top.all();
        let mut api = Api {
            schemas: &document.schemas,
            lines: BTreeMap::new(),
        };
        let bodies: BTreeSet<_> = methods.iter().map(|method| body(method)).collect();
        bodies.into_iter().for_each(|name| api.add_named(name));
        for (name, fields) in &api.lines {
            text += &format!("{name}\t{fields}\n");
        }
        for method in methods {
            let query = method.parameters.iter();
            let query = query.filter(|(_, parameter)| parameter.location == "query");
            let query: Vec<_> = query.map(|(name, _)| name.as_str()).collect();
            text += &format!(">{}\t{}\t{}\n", method.id, body(method), query.join(","));
        }
    }
    text
}

fn body(method: &DocumentMethod) -> &str {
    let request = method.request.as_ref();
    request
        .and_then(|it| it.reference.as_deref())
        .unwrap_or_default()
}

/// The schemas of one API that bodies are made of.
struct Api<'a> {
    schemas: &'a BTreeMap<String, Schema>,
    lines: BTreeMap<String, String>,
}

impl Api<'_> {
    fn add_named(&mut self, name: &str) {
        if !self.lines.contains_key(name)
            && let Some(schema) = self.schemas.get(name)
        {
            self.add(name, schema);
        }
    }

    fn add(&mut self, name: &str, schema: &Schema) {
        // Schemas contain themselves.
        self.lines.insert(name.to_owned(), String::new());
        let fields = schema.properties.iter();
        let fields: Vec<_> = fields
            .map(|(field, kind)| self.field(name, field, kind))
            .collect();
        self.lines.insert(name.to_owned(), fields.join(","));
    }

    fn field(&mut self, owner: &str, name: &str, schema: &Schema) -> String {
        let mut flags = "";
        let mut inner = schema;
        // A list's items stand where the list does.
        while let Some(of) = inner
            .items
            .as_deref()
            .or(inner.additional_properties.as_deref())
        {
            if inner.additional_properties.is_some() {
                // Maps of maps are left to whoever writes policy.
                flags = if flags.is_empty() { "*" } else { "*?" };
            }
            inner = of;
        }
        if inner.kind.as_deref() == Some("any") {
            return format!("{name}{flags}?");
        }
        if let Some(reference) = &inner.reference {
            self.add_named(reference);
            return format!("{name}{flags}:{reference}");
        }
        if inner.properties.is_empty() {
            return format!("{name}{flags}");
        }
        // A type without a name gets one.
        let made_up = format!("{owner}.{name}");
        self.add(&made_up, inner);
        format!("{name}{flags}:{made_up}")
    }
}
