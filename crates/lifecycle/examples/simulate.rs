//! Prints what would become of a Pod: `simulate POD.yaml TIME:FACT...`.

#![expect(clippy::print_stdout, reason = "an example may print")]

use podrun_lifecycle::simulate::{Options, Script, simulate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or("usage: simulate POD.yaml TIME:FACT...")?;
    let text = std::fs::read_to_string(&path)?;
    let pod = podrun_spec::parse(&path, &text)?.pods.into_iter().next().ok_or("no Pod in the manifest")?.pod;
    let facts = words.map(|word| word.parse()).collect::<Result<_, _>>()?;
    let timeline = simulate(&pod, &Script::new(facts), &Options::default())?;
    for line in timeline.lines() {
        println!("{line}");
    }
    println!("{:?}: {}", timeline.end, timeline.status().phase.as_str());
    Ok(())
}
