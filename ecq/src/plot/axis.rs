//! From values to places: ranges, round numbers, logarithms.

/// One axis of a panel.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The range, in logarithms if the axis is logarithmic.
    low: f64,
    high: f64,
    log: bool,
    start: f64,
    end: f64,
}

/// About so many ticks an axis.
const TICKS: f64 = 6.0;

impl Axis {
    /// An axis over all values that have a place on it, from `start` to `end` on the page.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, start: f64, end: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter_map(|value| scaled(value, log)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 * high.abs().max(1e-9) {
            (low, high) = (low - 0.5, high + 0.5);
        }
        if !log && low > 0.0 && low < 0.25 * high {
            low = 0.0;
        }
        Self {
            low,
            high,
            log,
            start,
            end,
        }
    }

    /// Where a value is on the page; nowhere if it is not finite, or not positive on a logarithmic
    /// axis.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let share = (scaled(value, self.log)? - self.low) / (self.high - self.low);
        Some(self.start + share * (self.end - self.start))
    }

    /// Places and labels of the ticks.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let values = if self.log {
            self.log_ticks()
        } else {
            self.linear_ticks()
        };
        values
            .into_iter()
            .filter_map(|value| Some((self.place(value)?, label(value))))
            .collect()
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / TICKS;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let factors = [1.0, 2.0, 5.0, 10.0];
        let step = factors
            .iter()
            .map(|f| f * magnitude)
            .find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    /// Powers of ten; with 2 and 5 between them where there are few.
    fn log_ticks(&self) -> Vec<f64> {
        let factors: &[f64] = if self.high - self.low < 2.5 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let decades = self.low.floor() as i32..=self.high.ceil() as i32;
        let ticks = decades.flat_map(|d| factors.iter().map(move |f| f * 10_f64.powi(d)));
        ticks
            .filter(|t| (self.low - 1e-9..=self.high + 1e-9).contains(&t.log10()))
            .collect()
    }
}

fn scaled(value: f64, log: bool) -> Option<f64> {
    let scaled = if log { value.log10() } else { value };
    scaled.is_finite().then_some(scaled)
}

/// A number with at most three digits and a unit prefix.
fn label(value: f64) -> String {
    let magnitude = value.abs();
    let (divisor, unit) = match magnitude {
        m if m >= 1e12 => (1e12, "T"),
        m if m >= 1e9 => (1e9, "G"),
        m if m >= 1e6 => (1e6, "M"),
        m if m >= 1e4 => (1e3, "k"),
        m if m == 0.0 || m >= 1e-3 => (1.0, ""),
        _ => return format!("{value:.0e}"),
    };
    let text = format!("{:.3}", value / divisor);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, log: bool) -> Vec<String> {
        let axis = Axis::new([low, high].into_iter(), log, 0.0, 100.0);
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            labels(0.0, 1.0, false),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            labels(90.0, 101.0, false),
            ["90", "92", "94", "96", "98", "100"]
        );
        assert_eq!(labels(0.0, 3.0e6, false)[1], "500k");
        assert_eq!(
            labels(0.01, 1.0, true),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
        );
        assert_eq!(
            labels(1.0, 1e6, true).last().map(String::as_str),
            Some("1M")
        );
    }

    #[test]
    fn one_value_or_none_still_makes_an_axis() {
        assert!(!labels(5.0, 5.0, false).is_empty());
        assert!(!labels(f64::NAN, f64::NAN, false).is_empty());
        let axis = Axis::new([1.0, 100.0].into_iter(), true, 0.0, 100.0);
        assert_eq!(axis.place(10.0), Some(50.0));
        assert_eq!(axis.place(0.0), None);
    }
}
