//! What annotators see in Label Studio, made of the task: its labeling configuration, and whether a project has it.

use shared::head::Task;

use crate::heads::labels::column;

/// The name of the picture, and of the field of a task that holds its address.
pub(super) const IMAGE: &str = "image";
/// The name of the boxes.
pub(super) const BOXES: &str = "boxes";

/// What is asked in a project.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Question<'a> {
    pub(super) task: Task,
    /// Names to choose from, for classes.
    pub(super) classes: &'a [String],
    /// What boxes are drawn around, for counts that are marked.
    pub(super) boxes: Option<&'a str>,
}

impl Question<'_> {
    /// The labeling configuration: `<View>` with the picture and what is asked.
    pub(super) fn markup(&self) -> String {
        let mut lines = vec!["<View>".to_owned(), format!("  <Image name=\"{IMAGE}\" value=\"${IMAGE}\"/>")];
        lines.extend(self.controls().into_iter().map(|line| format!("  {line}")));
        lines.push("</View>".to_owned());
        lines.join("\n")
    }

    fn controls(&self) -> Vec<String> {
        let name = column(self.task);
        let number = |least: &str| format!("<Number name=\"{name}\" toName=\"{IMAGE}\"{least}/>");
        match (self.task, self.boxes) {
            (Task::Count, None) => vec![number(" min=\"0\" required=\"true\"")],
            // Whoever draws boxes need not count them.
            (Task::Count, Some(thing)) => vec![
                number(" min=\"0\""),
                format!(
                    "<RectangleLabels name=\"{BOXES}\" toName=\"{IMAGE}\"><Label value=\"{}\"/></RectangleLabels>",
                    escaped(thing)
                ),
            ],
            (Task::TimeOfDay, _) => vec![number(" min=\"0\" max=\"1439.99\" required=\"true\"")],
            (Task::Scalar, _) => vec![number(" required=\"true\"")],
            (Task::Class, _) => {
                let choice = |it: &String| format!("<Choice value=\"{}\"/>", escaped(it));
                let choices: String = self.classes.iter().map(choice).collect();
                vec![format!(
                    "<Choices name=\"{name}\" toName=\"{IMAGE}\" choice=\"single\" required=\"true\">{choices}</Choices>"
                )]
            }
        }
    }

    /// What a project that was there before lacks: without it, answers come back under other names. Its own looks
    /// and additions are left alone.
    pub(super) fn lacks(&self, markup: &str) -> Option<String> {
        let mut wanted = vec![format!("${IMAGE}"), format!("name=\"{}\"", column(self.task))];
        if self.task == Task::Class {
            wanted.extend(self.classes.iter().map(|it| format!("value=\"{}\"", escaped(it))));
        }
        if let (Task::Count, Some(_)) = (self.task, self.boxes) {
            wanted.push(format!("name=\"{BOXES}\""));
        }
        wanted.into_iter().find(|it| !markup.contains(it))
    }
}

/// Text in an attribute of XML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_its_control() {
        let ask = |task, classes, boxes| Question { task, classes, boxes };
        let classes = ["clear".to_owned(), "fog \"thick\" <&>".to_owned()];
        let count = ask(Task::Count, &[], None).markup();
        assert_eq!(
            count,
            "<View>\n  <Image name=\"image\" value=\"$image\"/>\n  \
             <Number name=\"count\" toName=\"image\" min=\"0\" required=\"true\"/>\n</View>"
        );
        let boxes = ask(Task::Count, &[], Some("person")).markup();
        assert!(
            boxes.contains("<RectangleLabels name=\"boxes\" toName=\"image\"><Label value=\"person\"/>"),
            "{boxes}"
        );
        let class = ask(Task::Class, &classes, None).markup();
        assert!(class.contains("choice=\"single\""), "{class}");
        assert!(class.contains("<Choice value=\"fog &quot;thick&quot; &lt;&amp;&gt;\"/>"), "{class}");
        assert!(ask(Task::TimeOfDay, &[], None).markup().contains("name=\"minute_of_day\""));
    }

    #[test]
    fn a_project_that_asks_something_else_is_noticed() {
        let classes = ["clear".to_owned(), "fog".to_owned()];
        let class = Question { task: Task::Class, classes: &classes, boxes: None };
        assert_eq!(class.lacks(&class.markup()), None);
        assert_eq!(class.lacks(&class.markup().replace("fog", "mist")).unwrap(), "value=\"fog\"");
        let count = Question { task: Task::Count, classes: &[], boxes: None };
        assert_eq!(count.lacks(&class.markup()).unwrap(), "name=\"count\"");
        let boxes = Question { boxes: Some("person"), ..count };
        assert_eq!(boxes.lacks(&count.markup()).unwrap(), "name=\"boxes\"");
    }
}
