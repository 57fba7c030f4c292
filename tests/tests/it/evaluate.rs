//! `dc-encoder evaluate` on footage of the plaza, as `make eval` runs it: it measures, writes, and says so.

use std::fs;

use tests::plaza::{
    Clock,
    dataset::{Plan, render},
};
use tests::process;

const FRAMES: u32 = 36;

#[test]
fn a_folder_is_measured_from_frames_to_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model, out) = (dir.path().join("data"), dir.path().join("model"), dir.path().join("out"));
    // Two busy hours: everybody is somewhere else in each frame.
    let plan = Plan { seed: 3, start: Clock::at(0, 690.0), step_s: 200.0, count: FRAMES };
    render(&data, &plan, || {}).unwrap();
    let split = |text: &str| fs::write(data.join("split.toml"), text).unwrap();
    let [data_, model_, out_] = [&data, &model, &out].map(|path| path.to_str().unwrap());
    process::run("dc-encoder", ["model", "init", "--preset", "demo", "--seed", "1", "--out", model_])
        .unwrap();
    let evaluate = || {
        let args =
            ["evaluate", "--data", data_, "--model", model_, "--out", out_, "--labels", "10", "--draws", "2"];
        process::run("dc-encoder", args)
    };

    split("task = \"count\"\npool = [0, 20]\ntest = [20, 36]\nweather = \"dry\"\n");
    let error = evaluate().unwrap_err().to_string();
    assert!(error.contains("unknown field `weather`"), "{error}");
    assert!(!out.exists(), "nothing is begun before the folder is understood");

    split("task = \"count\"\npool = [0, 20]\ntest = [20, 36]\n");
    let text = evaluate().unwrap();
    for part in
        ["background × perspective", "OPTIMISTIC", "10 labels", "random weights", "goal=mean-error@30-labels"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let summary = text.lines().find(|line| line.starts_with("data: count from 10 labels: ")).unwrap();
    assert!(summary.contains("best baseline") && summary.contains("goals met"), "{summary}");
    for file in ["results.md", "results.json", "worst-10.png", "embeddings.safetensors"] {
        assert!(out.join(file).exists(), "{file}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    assert_eq!(json["curves"][0]["methods"].as_array().unwrap().len(), 8);
}
