//! All attacks, outside and inside.

use std::collections::HashMap;

use super::{
    attack,
    person::Person,
    stage::{Place, Stage},
    verdict::{Row, Trial, judge, succeeded},
};

/// Tries every attack on a stage of the doctor's own, with the BPF program `without` taken away if it is named.
///
/// The calling thread stays in the stage's namespaces.
///
/// # Errors
/// When the stage cannot be set, or attacks cannot be run on it.
pub fn attack_all(person: Person, without: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let mut stage = Stage::set(person, without)?;
    let all: Vec<_> = attack::all().map(|attack| attack.name).collect();
    let user = trials(&mut stage, Place::Outside, &all)?;
    let failed: Vec<_> = attack::all()
        .filter(|attack| {
            user.get(attack.name)
                .is_none_or(|trial| !succeeded(attack.goal, trial))
        })
        .map(|attack| attack.name)
        .collect();
    let root = trials(&mut stage, Place::OutsideAsRoot, &failed)?;
    let inside = trials(&mut stage, Place::Inside, &all)?;
    let rows = attack::all().map(|attack| {
        let of = |trials: &HashMap<String, Trial>| trials.get(attack.name).cloned();
        judge(
            attack,
            of(&user).as_ref(),
            of(&root).as_ref(),
            of(&inside).as_ref(),
        )
    });
    Ok(rows.collect())
}

fn trials(
    stage: &mut Stage,
    place: Place,
    attacks: &[&str],
) -> anyhow::Result<HashMap<String, Trial>> {
    let trials = stage.attempt(place, attacks)?.into_iter();
    Ok(trials
        .map(|trial| (trial.tried.attack.clone(), trial))
        .collect())
}
