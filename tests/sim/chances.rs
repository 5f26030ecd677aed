//! What independent errors come to, in closed form.

/// Runs of `length` failures in so many calls of which the part `p` fails, each run counted once and begun anew: a run is
/// completed every (p^-n - 1) / (1 - p) calls (Feller, An Introduction to Probability Theory and Its Applications I, XIII.7).
pub(crate) fn runs(calls: f64, p: f64, length: i32) -> f64 {
    calls * (1.0 - p) / (p.powi(-length) - 1.0)
}

/// The chance that at least `least` of `of` calls fail.
pub(crate) fn at_least(least: u32, of: u32, p: f64) -> f64 {
    let choose = |k: u32| (0..k).map(|i| f64::from(of - i) / f64::from(i + 1)).product::<f64>();
    let exactly = |k: u32| choose(k) * p.powi(k.cast_signed()) * (1.0 - p).powi((of - k).cast_signed());
    (least..=of).map(exactly).sum()
}
