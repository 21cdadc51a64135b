//! From PostgreSQL's parse tree to effects and names.
use pg_query::protobuf::Node;

use super::{Control, Effect, Names, Statement, UNPARSED};

/// What a statement does; its span is left empty.
pub(super) fn statement(_node: Option<&Node>) -> Statement {
    Statement {
        span: 0..0,
        effects: vec![Effect::opaque(UNPARSED, "not classed yet")],
        names: Names::default(),
        control: Control::None,
    }
}
