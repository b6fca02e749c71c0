//! The shape of schedules. When they are due is the daemon's business.

/// Accepts cron with five fields, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` and `every <duration>`.
///
/// The error says what is wrong in half a sentence.
pub fn check_schedule(text: &str) -> Result<(), String> {
    if let Some(name) = text.strip_prefix('@') {
        let known = ["hourly", "daily", "midnight", "weekly", "monthly", "yearly", "annually"];
        return if known.contains(&name) { Ok(()) } else { Err(format!("\"{text}\" is no known schedule")) };
    }
    if let Some(interval) = text.strip_prefix("every ") {
        let duration = copal_core::parse_duration(interval).map_err(|error| error.to_string())?;
        return if duration.is_positive() { Ok(()) } else { Err(format!("\"{text}\" would never rest")) };
    }
    let fields: Vec<_> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("\"{text}\" is no schedule"));
    }
    let limits =
        [("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7)];
    for (field, (what, low, high)) in fields.into_iter().zip(limits) {
        check_field(field, low, high).map_err(|()| format!("\"{field}\" is no {what}"))?;
    }
    Ok(())
}

fn check_field(field: &str, low: u32, high: u32) -> Result<(), ()> {
    let value = |text: &str| match text.parse::<u32>() {
        Ok(number) => (low..=high).contains(&number),
        // Names of months and days, `L`, `#` and the like: the daemon's parser knows them.
        Err(_) => {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '#') && high <= 31 && high != 23
        }
    };
    let good = field.split(',').all(|part| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let whole = range == "*" || range == "?";
        let in_range = whole || range.split_once('-').map_or_else(|| value(range), |(a, b)| value(a) && value(b));
        in_range && step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| step > 0))
    });
    if good { Ok(()) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_told_from_mistakes() {
        for good in [
            "0 0 * * *",
            "*/5 * * * *",
            "0 3 * * mon-fri",
            "@daily",
            "@weekly",
            "every 5m",
            "every 1d12h",
            "0 0 1,15 jan 7",
        ] {
            assert_eq!(check_schedule(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "daily",
            "@dayly",
            "every",
            "every 0s",
            "every day",
            "60 * * * *",
            "0 24 * * *",
            "* * * *",
            "0 0 0 * *",
            "*/0 * * * *",
        ] {
            assert!(check_schedule(bad).is_err(), "{bad}");
        }
    }
}
