//! Where and with what something was measured.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde::Serialize;

use crate::device::DeviceKind;

/// What a reader must know to compare the numbers with those of another machine.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// `2026-11-25`, in UTC.
    pub date: String,
    /// The device as its driver calls it.
    pub device: String,
    /// The driver with its version, where there is one.
    pub driver: Option<String>,
    /// The processor's model.
    pub processor: String,
    /// Threads that take part.
    pub threads: usize,
    /// Of the machine.
    pub memory_bytes: Option<u64>,
    /// Programs and libraries with their versions, and who is missing.
    pub notes: Vec<String>,
}

impl Machine {
    /// This machine, now.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn here(kind: DeviceKind, notes: Vec<String>) -> Result<Self> {
        Ok(Self {
            date: date(SystemTime::now()),
            device: kind.facts()?.name,
            driver: kind.driver(),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.into()),
            threads: std::thread::available_parallelism()?.get(),
            memory_bytes: memory(),
            notes,
        })
    }

    /// Names and values, for a table.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("date", self.date.clone()), ("device", self.device.clone())];
        rows.extend(self.driver.clone().map(|driver| ("driver", driver)));
        rows.push(("processor", self.processor.clone()));
        rows.push(("threads", self.threads.to_string()));
        let gibibytes = |bytes| format!("{:.0} GiB", bytes as f64 / f64::from(1 << 30));
        rows.extend(self.memory_bytes.map(|bytes| ("memory", gibibytes(bytes))));
        rows.extend(self.notes.iter().map(|note| ("with", note.clone())));
        rows
    }
}

/// The model, and the widest vector instructions that the code for it may use.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_string())
    };
    let has =
        |flag: &&str| value("flags").is_some_and(|flags| flags.split(' ').any(|has| has == *flag));
    let vectors = ["avx512f", "avx2"].into_iter().find(has);
    let family = value("cpu family").zip(value("model\t"));
    let family = family.map_or(String::new(), |(family, model)| {
        format!(", family {family} model {model}")
    });
    let vectors = vectors.map_or(String::new(), |flag| format!(", {flag}"));
    Some(format!("{}{family}{vectors}", value("model name")?))
}

fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = total.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The day in UTC: days since 1970 as a date of the Gregorian calendar, which repeats every 146097 days.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Years that start in March have their leap day at the end.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year + later)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_are_counted_through_leap_years() {
        let after = |days: u64| date(UNIX_EPOCH + Duration::from_secs(days * 86_400));
        assert_eq!(after(0), "1970-01-01");
        assert_eq!(after(789), "1972-02-29");
        assert_eq!(after(11_016), "2000-02-29");
        assert_eq!(after(20_453), "2025-12-31");
        assert_eq!(after(20_454), "2026-01-01");
    }
}
