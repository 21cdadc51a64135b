//! An organisation's policies and what it asks for: the same every time.

use std::{collections::BTreeSet, fmt::Write as _};

use holdpoint_core::{
    catalog::{Catalog, Method},
    fields::Fields,
    groups::classify,
    identity::Principal,
    operation::{Action, Content, Operation},
    policy::Source,
};

/// A part of the catalog's methods, and teams that have rules about them: one team for twenty policies.
pub struct Team<'c> {
    methods: Vec<&'c Method>,
    teams: usize,
}

impl<'c> Team<'c> {
    /// For so many policies.
    pub fn of(policies: usize, catalog: &'c Catalog) -> Self {
        Self {
            methods: catalog.methods().collect(),
            teams: (policies / 20).max(1),
        }
    }

    /// Of every kind of head that people write; every tenth is for everybody.
    pub fn policies(&self, count: usize) -> Source {
        let mut dice = Dice(1);
        let mut text = String::new();
        for at in 0..count {
            let team = dice.roll(self.teams);
            let one = self.method(&mut dice).id;
            let other = self.method(&mut dice).id;
            let service = one.split('.').next().unwrap_or_default();
            let rule = match at % 20 {
                0..=8 => format!(
                    r#"permit(principal in Group::"team-{team}", action == Action::"{one}", resource);"#
                ),
                9..=11 => format!(
                    r#"permit(principal in Group::"team-{team}", action in [Action::"{one}", Action::"{other}"], resource in Project::"project-{team}");"#
                ),
                12..=14 => format!(
                    r#"permit(principal in Group::"team-{team}", action in Action::"{service}.*", resource) when {{ resource.name like "*/team-{team}-*" }};"#
                ),
                15 | 16 => format!(
                    r#"@hold("reviewers") forbid(principal in Group::"team-{team}", action in Action::"delete", resource) when {{ context.query.hasTag("force") }};"#
                ),
                17 => format!(
                    r#"@hold("reviewers") forbid(principal, action == Action::"{one}", resource);"#
                ),
                18 => format!(
                    r#"forbid(principal, action == Action::"{one}", resource) when {{ context.body.hasTag("region") && context.body.getTag("region").contains("r-{team}") }};"#
                ),
                _ => format!(
                    r#"forbid(principal == Principal::"https://ci.example.com#job-{team}", action in Action::"{service}.*", resource);"#
                ),
            };
            writeln!(text, "{rule}").expect("a string takes anything");
        }
        Source {
            file: "made-up.cedar".to_owned(),
            text,
        }
    }

    /// Whoever asks is in three teams and in a group nobody has rules about.
    pub fn questions(&self, count: usize) -> Vec<(Principal, Operation)> {
        let mut dice = Dice(2);
        let people: Vec<_> = (0..100).map(|_| self.principal(&mut dice)).collect();
        (0..count)
            .map(|_| {
                (
                    people[dice.roll(people.len())].clone(),
                    self.operation(&mut dice),
                )
            })
            .collect()
    }

    fn method(&self, dice: &mut Dice) -> &'c Method {
        self.methods[dice.roll(self.methods.len())]
    }

    fn principal(&self, dice: &mut Dice) -> Principal {
        let teams = [(); 3].map(|()| format!("team-{}", dice.roll(self.teams)));
        Principal {
            issuer: "https://ci.example.com".to_owned(),
            subject: format!("job-{}", dice.roll(self.teams)),
            groups: teams.into_iter().chain(["everyone".to_owned()]).collect(),
            claims: [
                ("repository".to_owned(), "shop/web".to_owned()),
                ("ref".to_owned(), "refs/heads/main".to_owned()),
                ("environment".to_owned(), "production".to_owned()),
            ]
            .into(),
        }
    }

    fn operation(&self, dice: &mut Dice) -> Operation {
        let method = self.method(dice);
        let team = dice.roll(self.teams);
        let mut operation = Operation::on_host(Action::UNKNOWN, method.host, None);
        operation.action = Action::new(method.id, classify(method.id, method.verb));
        operation.method = method.verb.to_owned();
        operation.path = format!("/{}", method.template);
        operation.resource.name = format!(
            "//{}/projects/project-{team}/things/team-{team}-thing",
            method.host
        );
        operation.resource.project = Some(format!("project-{team}"));
        operation.resource.location = Some("europe-west1-b".to_owned());
        operation.query = vec![
            ("alt".to_owned(), "json".to_owned()),
            ("prettyPrint".to_owned(), "false".to_owned()),
        ];
        operation.content = match method.verb {
            "GET" | "DELETE" => Content::Empty,
            _ => Content::Fields(body(team)),
        };
        operation
    }
}

fn body(team: usize) -> Fields {
    let values = [
        ("name", format!("team-{team}-thing")),
        ("region", format!("r-{team}")),
        ("machineType", "zones/z/machineTypes/e2-small".to_owned()),
        ("labels.team", format!("{team}")),
        ("settings.tier", "small".to_owned()),
        ("networkInterfaces.network", "default".to_owned()),
    ];
    let fields = values.map(|(path, value)| (path.to_owned(), BTreeSet::from([value])));
    Fields(fields.into())
}

/// Numbers that look random (xorshift64*) and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % sides
    }
}
