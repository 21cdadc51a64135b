use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    catalog::Catalog,
    operation::Trait,
    recognise::{Head, Payload, route},
};

const JOBS: &str = "/bigquery/v2/projects/shop/jobs";
const QUERIES: &str = "/bigquery/v2/projects/shop/queries";

/// The SQL in a request: action and what it is on, with `?` where opaque.
fn within(path: &str, query: &str, media_type: &str, body: &str) -> Vec<String> {
    let mut headers = HeaderMap::new();
    let media_type = HeaderValue::from_str(media_type).expect("a media type");
    headers.insert(CONTENT_TYPE, media_type);
    let head = Head {
        method: "POST",
        authority: "bigquery.googleapis.com",
        path,
        query,
        headers: &headers,
    };
    let route = route(Catalog::built_in(), head).expect("it is well formed");
    let recognised = route
        .complete(Payload::Whole(body.as_bytes()))
        .expect("it is well formed");
    let shown = recognised.within().into_iter().map(|(at, it)| {
        let verb = it
            .action
            .id()
            .trim_start_matches("bigquery.sql.")
            .to_owned();
        let opaque = if it.traits.contains(&Trait::Opaque) {
            "?"
        } else {
            ""
        };
        let name = it
            .resource
            .name
            .replace("//bigquery.googleapis.com/projects/", "");
        format!("{at} {verb}{opaque} {name}")
    });
    shown.collect()
}

fn of(path: &str, body: &Value) -> Vec<String> {
    within(path, "", "application/json", &body.to_string())
}

fn query(more: Value) -> Value {
    let mut body = json!({"query": "select * from d.t", "useLegacySql": false});
    let more = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("fields").extend(more);
    body
}

const SELECT: &str = "0 select shop/datasets/d/tables/t";

#[test]
fn a_query_is_read_wherever_it_stands() {
    assert_eq!(of(QUERIES, &query(json!({}))), [SELECT]);
    let job = json!({"configuration": {"query": query(json!({}))}});
    assert_eq!(of(JOBS, &job), [SELECT]);
    let first_line = json!({"query": "#standardSQL\nselect * from d.t"});
    assert_eq!(of(QUERIES, &first_line), [SELECT]);
    let snake = json!({"query": "select * from d.t", "use_legacy_sql": "false"});
    assert_eq!(of(QUERIES, &snake), [SELECT]);
}

#[test]
fn parameters_and_settings_that_change_nothing_leave_a_read_a_read() {
    let named = json!({
        "query": "select * from d.t where a = @a and b = ?", "useLegacySql": false, "parameterMode": "NAMED",
        "queryParameters": [{"name": "a", "parameterType": {"type": "STRING"}, "parameterValue": {"value": "; drop table d.t"}}],
        "maxResults": 10, "timeoutMs": 1000, "labels": {"a": "b"}, "location": "US", "requestId": "r",
        "connectionProperties": [{"key": "time_zone", "value": "UTC"}],
    });
    assert_eq!(of(QUERIES, &named), [SELECT]);
}

#[test]
fn what_gives_a_text_another_meaning_makes_it_opaque() {
    for more in [
        json!({"connectionProperties": [{"key": "session_id", "value": "s"}]}),
        json!({"connectionProperties": [{"key": "dataset_project_id", "value": "p"}]}),
        json!({"connectionProperties": [{"key": "time_zone", "value": "UTC"}, {"key": "service_account", "value": "x"}]}),
        json!({"connection_properties": [{}]}),
        json!({"tableDefinitions": {"t": {"sourceUris": ["gs://b/o"]}}}),
        json!({"continuous": true}),
        json!({"somethingNew": 1}),
    ] {
        let found = of(QUERIES, &query(more.clone()));
        assert!(found[0].contains('?'), "{more}: {found:?}");
    }
    let brings_code = query(json!({"userDefinedFunctionResources": [{"inlineCode": "x"}]}));
    let found = of(QUERIES, &brings_code);
    assert!(
        found.iter().any(|it| it.contains("create_function?")),
        "{found:?}"
    );
}

#[test]
fn legacy_sql_is_opaque_and_so_is_what_is_no_text() {
    for body in [
        json!({"query": "select * from [d.t]"}),
        json!({"query": "select 1", "useLegacySql": true}),
        json!({"query": "#legacySQL\nselect 1", "useLegacySql": false}),
        json!({"useLegacySql": false}),
        json!({"query": ["select 1"], "useLegacySql": false}),
        json!({"query": "begin; select 1; end", "useLegacySql": false}),
        json!({"query": "execute immediate 'drop table d.t'", "useLegacySql": false}),
    ] {
        let found = of(QUERIES, &body);
        assert!(found.iter().any(|it| it.contains('?')), "{body}: {found:?}");
    }
}

#[test]
fn a_dry_run_runs_nothing() {
    let dry = json!({"query": "drop table d.t", "useLegacySql": false, "dryRun": true});
    assert_eq!(of(QUERIES, &dry), ["0 dry_run shop/datasets/d/tables/t"]);
    let job = json!({"configuration": {"dryRun": true, "query": dry.clone()}});
    assert_eq!(of(JOBS, &job), ["0 dry_run shop/datasets/d/tables/t"]);
    // Not where it means nothing.
    let job = json!({"configuration": {"query": {"query": "drop table d.t", "useLegacySql": false, "dryRun": true}}});
    assert_eq!(of(JOBS, &job), ["0 drop_table shop/datasets/d/tables/t"]);
    let not = json!({"query": "drop table d.t", "useLegacySql": false, "dryRun": false});
    assert_eq!(of(QUERIES, &not), ["0 drop_table shop/datasets/d/tables/t"]);
}

#[test]
fn where_a_result_goes_is_written_to() {
    let table = json!({"projectId": "other", "datasetId": "x", "tableId": "y"});
    for (disposition, verbs) in [
        (None, &["create_table"][..]),
        (Some("WRITE_APPEND"), &["create_table", "insert"]),
        (Some("WRITE_TRUNCATE"), &["create_table", "truncate"]),
        (Some("WRITE_SOMEHOW"), &["create_table", "truncate"]),
    ] {
        let mut more = json!({"destinationTable": table});
        if let Some(disposition) = disposition {
            more["writeDisposition"] = disposition.into();
        }
        let job = json!({"configuration": {"query": query(more)}});
        let mut expected = vec![SELECT.to_owned()];
        expected.extend(
            verbs
                .iter()
                .map(|verb| format!("0 {verb} other/datasets/x/tables/y")),
        );
        assert_eq!(of(JOBS, &job), expected);
    }
}

#[test]
fn tables_without_a_data_set_are_in_the_default_one() {
    let set = json!({"query": "select * from t", "useLegacySql": false, "defaultDataset": {"datasetId": "d"}});
    assert_eq!(of(QUERIES, &set), [SELECT]);
    let other = json!({"query": "select * from t", "useLegacySql": false, "defaultDataset": {"projectId": "p", "datasetId": "x"}});
    assert_eq!(of(QUERIES, &other), ["0 select p/datasets/x/tables/t"]);
}

#[test]
fn loads_copies_and_extracts_are_their_request_s_business() {
    for kind in ["load", "copy", "extract"] {
        let job = json!({"configuration": {kind: {"destinationTable": {"datasetId": "d", "tableId": "t"}}}});
        assert!(of(JOBS, &job).is_empty(), "{kind}");
        // Not where there is a query as well.
        let both = json!({"configuration": {kind: {}, "query": {"query": "drop table d.t", "useLegacySql": false}}});
        assert_eq!(of(JOBS, &both), ["0 drop_table shop/datasets/d/tables/t"]);
    }
}

#[test]
fn a_batch_is_read_part_by_part() {
    let part = |body: &Value| {
        let body = body.to_string();
        let length = body.len();
        format!(
            "--b\r\ncontent-type: application/http\r\n\r\nPOST {QUERIES} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}\r\n"
        )
    };
    let drop = json!({"query": "drop table d.t", "useLegacySql": false});
    let body = format!("{}{}--b--\r\n", part(&query(json!({}))), part(&drop));
    let found = within(
        "/batch/bigquery/v2",
        "",
        "multipart/mixed; boundary=b",
        &body,
    );
    assert_eq!(found, [SELECT, "1 drop_table shop/datasets/d/tables/t"]);
}

#[test]
fn a_query_in_an_upload_is_opaque_and_a_load_is_none() {
    let upload = |configuration: Value| {
        let metadata = json!({"configuration": configuration});
        let body = format!(
            "--b\r\ncontent-type: application/json\r\n\r\n{metadata}\r\n--b\r\ncontent-type: text/csv\r\n\r\n1\r\n--b--\r\n"
        );
        let path = "/upload/bigquery/v2/projects/shop/jobs";
        within(
            path,
            "uploadType=multipart",
            "multipart/related; boundary=b",
            &body,
        )
    };
    let found = upload(json!({"query": query(json!({}))}));
    assert!(
        found.iter().all(|it| it.contains('?')) && !found.is_empty(),
        "{found:?}"
    );
    assert!(upload(json!({"load": {}})).is_empty());
}

#[test]
fn what_a_view_hides_is_judged_when_it_is_made() {
    let tables = "/bigquery/v2/projects/shop/datasets/d/tables";
    let view = |kind: &str, query: &str| {
        let table = json!({kind: {"query": query, "useLegacySql": false}, "tableReference": {"tableId": "v"}});
        of(tables, &table)
    };
    for kind in ["view", "materializedView"] {
        let plain = view(kind, "select * from d.t");
        assert_eq!(plain, [SELECT, "0 create_view shop"], "{kind}");
        let hides = view(kind, "select net.mine(a) from d.t");
        assert!(hides[0].contains('?'), "{hides:?}");
    }
    assert!(of(tables, &json!({"tableReference": {"tableId": "t"}})).is_empty());
    let legacy = of(tables, &json!({"view": {"query": "select 1"}}));
    assert!(legacy[0].contains("legacy?"), "{legacy:?}");
}
