//! Expressions.

use pg_query::{
    NodeEnum,
    protobuf::{
        AExpr, AExprKind, AIndirection, CaseExpr, ColumnRef, FuncCall, Node, ResTarget, SubLink,
        WindowDef, XmlExpr,
    },
};

use super::{Walk, text};

impl Walk {
    pub(super) fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    pub(super) fn maybe(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.node(node);
        }
    }

    /// Anything that may stand in a query.
    pub(super) fn node(&mut self, node: &Node) {
        let Some(node) = node.node.as_ref() else {
            return;
        };
        match node {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::AStar(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::BitString(_)
            | NodeEnum::Alias(_) => {}
            NodeEnum::MergeSupportFunc(_) => self.called("merge_action"),
            NodeEnum::List(list) => self.nodes(&list.items),
            NodeEnum::ColumnRef(it) => self.column(it),
            NodeEnum::AExpr(it) => self.applied(it),
            NodeEnum::BoolExpr(it) => self.nodes(&it.args),
            NodeEnum::NullTest(it) => self.maybe(it.arg.as_deref()),
            NodeEnum::BooleanTest(it) => self.maybe(it.arg.as_deref()),
            NodeEnum::CoalesceExpr(it) => self.nodes(&it.args),
            NodeEnum::MinMaxExpr(it) => self.nodes(&it.args),
            NodeEnum::RowExpr(it) => self.nodes(&it.args),
            NodeEnum::AArrayExpr(it) => self.nodes(&it.elements),
            NodeEnum::NamedArgExpr(it) => self.maybe(it.arg.as_deref()),
            NodeEnum::GroupingFunc(it) => self.nodes(&it.args),
            NodeEnum::GroupingSet(it) => self.nodes(&it.content),
            NodeEnum::FuncCall(it) => self.call(it),
            NodeEnum::TypeName(it) => self.types(Some(it)),
            NodeEnum::TypeCast(it) => {
                self.maybe(it.arg.as_deref());
                self.types(it.type_name.as_ref());
            }
            NodeEnum::CaseExpr(it) => self.case(it),
            NodeEnum::CaseWhen(it) => {
                self.maybe(it.expr.as_deref());
                self.maybe(it.result.as_deref());
            }
            NodeEnum::SubLink(it) => self.sub_link(it),
            NodeEnum::CollateClause(it) => self.maybe(it.arg.as_deref()),
            NodeEnum::AIndirection(it) => self.indirection(it),
            NodeEnum::AIndices(it) => {
                self.maybe(it.lidx.as_deref());
                self.maybe(it.uidx.as_deref());
            }
            NodeEnum::ResTarget(it) => self.target(it),
            NodeEnum::MultiAssignRef(it) => self.maybe(it.source.as_deref()),
            NodeEnum::SortBy(it) => {
                self.maybe(it.node.as_deref());
                if !it.use_op.is_empty() {
                    self.operator(&it.use_op);
                }
            }
            NodeEnum::WindowDef(it) => self.window(it),
            NodeEnum::XmlExpr(it) => self.xml(it),
            NodeEnum::XmlSerialize(it) => {
                self.maybe(it.expr.as_deref());
                self.types(it.type_name.as_ref());
            }
            other => self.query_part(other),
        }
    }

    /// `t.f` is column f, or else a call of f(t), or a cast to f.
    fn column(&mut self, ColumnRef { fields, .. }: &ColumnRef) {
        self.rows.named(fields);
        if fields.len() > 1 {
            let last = fields.last().and_then(text);
            self.names.attributes.extend(last.map(str::to_owned));
        }
    }

    /// What follows a value of any type: `.field`, which may be a call, and `[index]`.
    fn indirection(&mut self, AIndirection { arg, indirection }: &AIndirection) {
        self.maybe(arg.as_deref());
        for field in indirection {
            match text(field) {
                Some(name) => drop(self.names.methods.insert(name.to_owned())),
                None => self.node(field),
            }
        }
    }

    /// What follows a column that is written.
    fn fields(&mut self, fields: &[Node]) {
        for field in fields {
            match text(field) {
                Some(name) => drop(self.names.attributes.insert(name.to_owned())),
                None => self.node(field),
            }
        }
    }

    fn applied(&mut self, it: &AExpr) {
        use AExprKind as K;
        match K::try_from(it.kind) {
            Ok(
                K::AexprBetween | K::AexprNotBetween | K::AexprBetweenSym | K::AexprNotBetweenSym,
            ) => self.operators(&["<", "<=", ">", ">="]),
            Ok(K::Undefined) | Err(_) => self.unknown("a kind of operator"),
            Ok(_) => self.operator(&it.name),
        }
        self.maybe(it.lexpr.as_deref());
        self.maybe(it.rexpr.as_deref());
    }

    pub(super) fn call(&mut self, it: &FuncCall) {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = it;
        self.function(funcname);
        // NORMALIZE(...) is syntax since PostgreSQL 13.
        if funcname.last().and_then(text) == Some("normalize") {
            self.called("normalize");
        }
        self.nodes(args);
        self.nodes(agg_order);
        self.maybe(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
        self.setting_by_function(funcname, args);
        self.acting_function(funcname, args);
    }

    pub(super) fn window(&mut self, it: &WindowDef) {
        self.nodes(&it.partition_clause);
        self.nodes(&it.order_clause);
        self.maybe(it.start_offset.as_deref());
        self.maybe(it.end_offset.as_deref());
    }

    fn case(&mut self, it: &CaseExpr) {
        if it.arg.is_some() {
            self.operators(&["="]);
        }
        self.maybe(it.arg.as_deref());
        self.nodes(&it.args);
        self.maybe(it.defresult.as_deref());
    }

    fn sub_link(&mut self, it: &SubLink) {
        if !it.oper_name.is_empty() {
            self.operator(&it.oper_name);
        } else if it.testexpr.is_some() {
            // `IN (SELECT ...)`
            self.operators(&["="]);
        }
        self.maybe(it.testexpr.as_deref());
        self.maybe(it.subselect.as_deref());
    }

    fn target(&mut self, it: &ResTarget) {
        self.fields(&it.indirection);
        self.maybe(it.val.as_deref());
    }

    fn xml(&mut self, it: &XmlExpr) {
        self.nodes(&it.named_args);
        self.nodes(&it.args);
    }
}
