//! Whether two samples of times are of one distribution, as far as two tests can tell.

/// The statistic, which is standard normal for large samples of one distribution, and how probable one as large would be
/// then.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub statistic: f64,
    pub probability: f64,
}

#[allow(clippy::cast_precision_loss, reason = "samples are small")]
fn count(sample: &[f64]) -> f64 {
    sample.len() as f64
}

/// Mann-Whitney U: whether one sample tends to be greater. By ranks, so that a few stray times do not matter; normal
/// approximation with correction for ties and continuity.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Verdict {
    let mut all: Vec<(f64, bool)> = a.iter().map(|x| (*x, true)).chain(b.iter().map(|x| (*x, false))).collect();
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let (mut ranks_of_a, mut ties, mut before) = (0.0, 0.0, 0.0);
    for tied in all.chunk_by(|x, y| x.0.total_cmp(&y.0).is_eq()) {
        let alike: Vec<f64> = tied.iter().map(|x| x.0).collect();
        let (size, of_a) = (count(&alike), count(&tied.iter().filter(|x| x.1).map(|x| x.0).collect::<Vec<_>>()));
        // Those that are equal share the mean of their ranks.
        ranks_of_a += of_a * (before + f64::midpoint(size, 1.0));
        ties += size.powi(3) - size;
        before += size;
    }
    let (m, n) = (count(a), count(b));
    let away = ranks_of_a - m * (m + 1.0) / 2.0 - m * n / 2.0;
    let variance = m * n / 12.0 * ((m + n + 1.0) - ties / ((m + n) * (m + n - 1.0)));
    let statistic = away.signum() * (away.abs() - 0.5).max(0.0) / variance.sqrt();
    Verdict { statistic, probability: two_sided(statistic) }
}

/// Welch's t: whether the means differ. For hundreds of values its distribution is as good as normal.
pub fn welch(a: &[f64], b: &[f64]) -> Verdict {
    let moments = |sample: &[f64]| {
        let mean = sample.iter().sum::<f64>() / count(sample);
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count(sample) - 1.0);
        (mean, variance / count(sample))
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (moments(a), moments(b));
    let statistic = (mean_a - mean_b) / (error_a + error_b).sqrt();
    Verdict { statistic, probability: two_sided(statistic) }
}

/// Probability of a standard normal value further from zero than this. Numerical Recipes' `erfcc`, right to seven digits.
fn two_sided(statistic: f64) -> f64 {
    const TERMS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let x = statistic.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    t * (TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term) - x * x).exp()
}

pub fn median(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() < by, "{a} {b}");
    }

    #[test]
    fn known_values() {
        // Student's sleep data, as R has it: `t.test(extra ~ group)`, `wilcox.test(extra ~ group, exact = FALSE)`.
        let one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        close(welch(&one, &two).statistic, -1.8608, 1e-4);
        close(mann_whitney(&one, &two).probability, 0.069_33, 1e-5);
        close(mann_whitney(&two, &one).statistic, -mann_whitney(&one, &two).statistic, 1e-12);
        // Tables of the normal distribution.
        for (statistic, probability) in [(0.0, 1.0), (1.0, 0.317_310_5), (1.959_964, 0.05), (4.0, 6.334e-5)] {
            close(two_sided(statistic), probability, 1e-6);
            close(two_sided(-statistic), probability, 1e-6);
        }
        close(median(&[3.0, 1.0, 2.0]), 2.0, 1e-12);
        assert!(mann_whitney(&one, &one).probability > 0.99 && welch(&one, &one).probability > 0.99);
    }
}
