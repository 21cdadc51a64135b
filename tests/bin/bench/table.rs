//! The figures, side by side.

use crate::Measured;

/// One number of connections.
pub struct Row {
    pub connections: usize,
    pub direct: Measured,
    pub nginx: Measured,
    pub holdpoint: Measured,
}

/// Prints all of it, ratios and additions to direct included.
pub fn print(rows: &[Row]) {
    println!("2 KB JSON reads over HTTP/1.1, kept connections, TLS on both sides; medians\n");
    println!(
        "{:>11} {:<10} {:>11} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "connections",
        "way",
        "requests/s",
        "of direct",
        "p50 us",
        "p99 us",
        "added p50",
        "added p99"
    );
    for row in rows {
        for (way, measured) in [
            ("direct", row.direct),
            ("nginx", row.nginx),
            ("holdpoint", row.holdpoint),
        ] {
            println!(
                "{:>11} {way:<10} {:>11.0} {:>9.2} {:>9} {:>9} {:>10} {:>10}",
                row.connections,
                measured.requests_per_second,
                measured.requests_per_second / row.direct.requests_per_second,
                measured.p50_us,
                measured.p99_us,
                added(measured.p50_us, row.direct.p50_us),
                added(measured.p99_us, row.direct.p99_us),
            );
        }
    }
}

fn added(way: u64, direct: u64) -> String {
    format!("{:+}", way.cast_signed() - direct.cast_signed())
}
