//! The figures, side by side.

use crate::{
    contender::Contender,
    pgbench::{Measured, Run},
};

/// One mode with one number of clients: each round has one measurement for each contender.
pub struct Row {
    pub run: Run,
    pub contenders: Vec<Contender>,
    pub rounds: Vec<Vec<Measured>>,
}

/// Prints medians; ratios are those of measurements of one round.
pub fn print(rows: &[Row]) {
    println!("pgbench -S, TLS on both sides, SCRAM; medians\n");
    println!(
        "{:<9} {:>7} {:<10} {:>10} {:>9} {:>9}",
        "protocol", "clients", "way", "queries/s", "of direct", "CPU us/q"
    );
    for row in rows {
        let direct = row.place(Contender::Direct);
        for (place, who) in row.contenders.iter().enumerate() {
            let ratio =
                |round: &Vec<Measured>| Some(round[place].per_second / round[direct?].per_second);
            println!(
                "{:<9} {:>7} {who:<10} {:>10} {:>9} {:>9}",
                row.run.mode.to_string(),
                row.run.clients,
                row.median(0, |round| Some(round[place].per_second)),
                row.median(2, ratio),
                row.median(1, |round| round[place].cpu_us),
            );
        }
    }
}

impl Row {
    fn place(&self, who: Contender) -> Option<usize> {
        self.contenders.iter().position(|it| *it == who)
    }

    fn median(&self, digits: usize, of: impl Fn(&Vec<Measured>) -> Option<f64>) -> String {
        let mut values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        match values.get(values.len() / 2) {
            Some(median) => format!("{median:.digits$}"),
            None => "-".to_owned(),
        }
    }
}
