//! Conditions that choose no row: `WHERE true`, `WHERE 1=1`, `WHERE id = id`, a parameter, ...

use pg_query::{
    NodeEnum,
    protobuf::{BoolExprType, Node},
};

/// Whether a condition lets every row pass as far as can be seen: it is not there, looks at no column, or compares one with
/// itself. A plain `false` lets none pass.
pub(super) fn every_row(condition: Option<&Node>) -> bool {
    let Some(node) = condition.and_then(|it| it.node.as_ref()) else {
        return true;
    };
    match node {
        NodeEnum::BoolExpr(it) => {
            let mut args = it.args.iter().map(|arg| every_row(Some(arg)));
            match BoolExprType::try_from(it.boolop) {
                Ok(BoolExprType::AndExpr) => args.all(|every| every),
                Ok(BoolExprType::OrExpr) => args.any(|every| every),
                // NOT, and what is new: by whether it looks at a column.
                _ => !it.args.iter().any(looks_at_a_column),
            }
        }
        NodeEnum::AConst(it) => !matches!(
            it.val,
            Some(pg_query::protobuf::a_const::Val::Boolval(ref it)) if !it.boolval
        ),
        NodeEnum::NullTest(_) => false,
        NodeEnum::AExpr(it) => {
            !condition.is_some_and(looks_at_a_column)
                || is_column(it.lexpr.as_deref())
                    && same_column(it.lexpr.as_deref(), it.rexpr.as_deref())
        }
        _ => condition.is_some_and(|node| !looks_at_a_column(node)),
    }
}

fn is_column(node: Option<&Node>) -> bool {
    matches!(
        node.and_then(|it| it.node.as_ref()),
        Some(NodeEnum::ColumnRef(_))
    )
}

fn same_column(left: Option<&Node>, right: Option<&Node>) -> bool {
    let (Some(NodeEnum::ColumnRef(left)), Some(NodeEnum::ColumnRef(right))) = (
        left.and_then(|it| it.node.as_ref()),
        right.and_then(|it| it.node.as_ref()),
    ) else {
        return false;
    };
    left.fields == right.fields
}

/// What is not known to look at none, looks at one.
fn looks_at_a_column(node: &Node) -> bool {
    let any = |nodes: &[Node]| nodes.iter().any(looks_at_a_column);
    let maybe = |node: Option<&Node>| node.is_some_and(looks_at_a_column);
    match node.node.as_ref() {
        None
        | Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_)) => {
            false
        }
        Some(NodeEnum::AExpr(it)) => maybe(it.lexpr.as_deref()) || maybe(it.rexpr.as_deref()),
        Some(NodeEnum::BoolExpr(it)) => any(&it.args),
        Some(NodeEnum::FuncCall(it)) => any(&it.args),
        Some(NodeEnum::TypeCast(it)) => maybe(it.arg.as_deref()),
        Some(NodeEnum::List(it)) => any(&it.items),
        Some(NodeEnum::RowExpr(it)) => any(&it.args),
        Some(NodeEnum::AArrayExpr(it)) => any(&it.elements),
        Some(NodeEnum::CoalesceExpr(it)) => any(&it.args),
        Some(NodeEnum::NullTest(it)) => maybe(it.arg.as_deref()),
        Some(NodeEnum::BooleanTest(it)) => maybe(it.arg.as_deref()),
        Some(NodeEnum::CaseExpr(it)) => {
            maybe(it.arg.as_deref()) || any(&it.args) || maybe(it.defresult.as_deref())
        }
        Some(NodeEnum::CaseWhen(it)) => maybe(it.expr.as_deref()) || maybe(it.result.as_deref()),
        // EXISTS (SELECT 1), with nothing of the row in it.
        Some(NodeEnum::SubLink(it)) => {
            maybe(it.testexpr.as_deref()) || maybe(it.subselect.as_deref())
        }
        Some(NodeEnum::SelectStmt(it)) => {
            any(&it.target_list)
                || any(&it.values_lists)
                || !it.from_clause.is_empty()
                || maybe(it.where_clause.as_deref())
                || it.larg.is_some()
                || it.with_clause.is_some()
        }
        Some(NodeEnum::ResTarget(it)) => maybe(it.val.as_deref()),
        Some(_) => true,
    }
}
