//! Who may do what, roles and their databases, and what is outside of the database: extensions, servers, subscriptions.

use pg_query::{
    NodeEnum,
    protobuf::{GrantStmt, Node, ObjectType, RoleSpec},
};

use super::{Walk, objects::object_name};
use crate::sql::{Effect, Name, actions};

impl Walk {
    pub(super) fn on_rights(&mut self, node: &NodeEnum) {
        use ObjectType as O;
        let plain = |name: &String| Some(Name::plain(name));
        match node {
            NodeEnum::GrantStmt(it) => self.grant(it),
            NodeEnum::GrantRoleStmt(it) if it.is_grant => self.does("postgres.grant_role", None),
            NodeEnum::GrantRoleStmt(_) => self.does("postgres.revoke_role", None),
            NodeEnum::AlterDefaultPrivilegesStmt(_) => {
                self.does("postgres.alter_default_privileges", None);
            }
            NodeEnum::CreateRoleStmt(it) => {
                self.creates(O::ObjectRole, Some(Name::plain(&it.role)))
            }
            NodeEnum::AlterRoleStmt(it) => self.alters_role(it.role.as_ref()),
            NodeEnum::AlterRoleSetStmt(it) => self.alters_role(it.role.as_ref()),
            NodeEnum::DropRoleStmt(it) => self.drops_roles(&it.roles),
            NodeEnum::DropOwnedStmt(_) => self.does("postgres.drop_owned", None),
            NodeEnum::ReassignOwnedStmt(_) => self.does("postgres.reassign_owned", None),
            NodeEnum::CreateUserMappingStmt(it) => {
                self.creates(O::ObjectUserMapping, plain(&it.servername));
            }
            NodeEnum::AlterUserMappingStmt(it) => {
                self.alters(O::ObjectUserMapping as i32, plain(&it.servername));
            }
            NodeEnum::DropUserMappingStmt(it) => {
                self.does("postgres.drop_user_mapping", plain(&it.servername));
            }
            NodeEnum::AlterSystemStmt(_) => self.does("postgres.alter_system", None),
            NodeEnum::CreateExtensionStmt(it) => {
                self.creates(O::ObjectExtension, Some(Name::plain(&it.extname)));
            }
            NodeEnum::AlterExtensionStmt(it) => {
                self.alters(O::ObjectExtension as i32, plain(&it.extname));
            }
            NodeEnum::AlterExtensionContentsStmt(it) => {
                self.alters(O::ObjectExtension as i32, plain(&it.extname));
            }
            NodeEnum::CreateFdwStmt(it) => self.creates(O::ObjectFdw, plain(&it.fdwname)),
            NodeEnum::AlterFdwStmt(it) => self.alters(O::ObjectFdw as i32, plain(&it.fdwname)),
            NodeEnum::CreateForeignServerStmt(it) => {
                self.creates(O::ObjectForeignServer, plain(&it.servername));
            }
            NodeEnum::AlterForeignServerStmt(it) => {
                self.alters(O::ObjectForeignServer as i32, plain(&it.servername));
            }
            NodeEnum::ImportForeignSchemaStmt(_) => {
                self.does("postgres.import_foreign_schema", None)
            }
            NodeEnum::CreatePublicationStmt(it) => {
                self.creates(O::ObjectPublication, plain(&it.pubname));
            }
            NodeEnum::AlterPublicationStmt(it) => {
                self.alters(O::ObjectPublication as i32, plain(&it.pubname));
            }
            NodeEnum::CreateSubscriptionStmt(it) => {
                self.creates(O::ObjectSubscription, plain(&it.subname));
            }
            NodeEnum::AlterSubscriptionStmt(it) => {
                self.alters(O::ObjectSubscription as i32, plain(&it.subname));
            }
            NodeEnum::DropSubscriptionStmt(it) => {
                self.does("postgres.drop_subscription", plain(&it.subname));
            }
            other => self.on_the_rest(other),
        }
    }

    fn on_the_rest(&mut self, node: &NodeEnum) {
        use ObjectType as O;
        let alters = |walk: &mut Self, kind: O| walk.alters(kind as i32, None);
        let plain = |name: &String| Some(Name::plain(name));
        match node {
            NodeEnum::CreatedbStmt(it) => self.creates(O::ObjectDatabase, plain(&it.dbname)),
            NodeEnum::AlterDatabaseStmt(it) => {
                self.alters(O::ObjectDatabase as i32, plain(&it.dbname));
            }
            NodeEnum::AlterDatabaseSetStmt(it) => {
                self.alters(O::ObjectDatabase as i32, plain(&it.dbname));
            }
            NodeEnum::AlterDatabaseRefreshCollStmt(it) => {
                self.alters(O::ObjectDatabase as i32, plain(&it.dbname));
            }
            NodeEnum::DropdbStmt(it) => self.does("postgres.drop_database", plain(&it.dbname)),
            NodeEnum::CreateTableSpaceStmt(it) => {
                self.creates(O::ObjectTablespace, plain(&it.tablespacename));
            }
            NodeEnum::AlterTableSpaceOptionsStmt(it) => {
                self.alters(O::ObjectTablespace as i32, plain(&it.tablespacename));
            }
            NodeEnum::DropTableSpaceStmt(it) => {
                self.does("postgres.drop_tablespace", plain(&it.tablespacename));
            }
            NodeEnum::AlterTableMoveAllStmt(it) => self.alters(it.objtype, None),
            NodeEnum::CreateEventTrigStmt(it) => {
                self.creates(O::ObjectEventTrigger, plain(&it.trigname));
            }
            NodeEnum::AlterEventTrigStmt(it) => {
                self.alters(O::ObjectEventTrigger as i32, plain(&it.trigname));
            }
            NodeEnum::CreatePlangStmt(it) => self.creates(O::ObjectLanguage, plain(&it.plname)),
            NodeEnum::CreateAmStmt(it) => self.creates(O::ObjectAccessMethod, plain(&it.amname)),
            NodeEnum::CreateCastStmt(_) => self.creates(O::ObjectCast, None),
            NodeEnum::CreateTransformStmt(_) => self.creates(O::ObjectTransform, None),
            NodeEnum::CreateConversionStmt(_) => self.creates(O::ObjectConversion, None),
            NodeEnum::CreateOpClassStmt(_) => self.creates(O::ObjectOpclass, None),
            NodeEnum::CreateOpFamilyStmt(_) => self.creates(O::ObjectOpfamily, None),
            NodeEnum::AlterOpFamilyStmt(_) => alters(self, O::ObjectOpfamily),
            NodeEnum::AlterOperatorStmt(_) => alters(self, O::ObjectOperator),
            NodeEnum::AlterCollationStmt(_) => alters(self, O::ObjectCollation),
            NodeEnum::AlterTsdictionaryStmt(_) => alters(self, O::ObjectTsdictionary),
            NodeEnum::AlterTsconfigurationStmt(_) => alters(self, O::ObjectTsconfiguration),
            _ => self.add(Effect::opaque(
                actions::UNPARSED,
                "it is a statement that Holdpoint does not know",
            )),
        }
    }

    fn alters_role(&mut self, role: Option<&RoleSpec>) {
        let role = role.map(|it| Name::plain(&it.rolename));
        self.alters(ObjectType::ObjectRole as i32, role);
    }

    fn drops_roles(&mut self, roles: &[Node]) {
        for role in roles {
            match role.node.as_ref() {
                Some(NodeEnum::RoleSpec(it)) => {
                    self.does("postgres.drop_role", Some(Name::plain(&it.rolename)));
                }
                _ => self.unknown("a role"),
            }
        }
    }

    fn grant(&mut self, it: &GrantStmt) {
        let action = match it.is_grant {
            true => "postgres.grant",
            false => "postgres.revoke",
        };
        for object in &it.objects {
            self.does(action, object_name(object));
        }
        if it.objects.is_empty() {
            self.does(action, None);
        }
    }
}
