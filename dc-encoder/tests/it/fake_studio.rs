//! As much of Label Studio 1.23 as is asked, played.

use serde_json::{Value, json};

use super::fake::{self, Answer, Fault, Request};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";
pub const PERSONAL: &str = "eyJh.eyJi.c2ln";

/// As much of Label Studio 1.23 as is asked.
#[derive(Default)]
pub struct Server {
    pub projects: Vec<Value>,
    pub tasks: Vec<Value>,
    /// Name and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    pub faults: Vec<Fault>,
    /// Method and path of every request.
    pub seen: Vec<String>,
    /// Access that was given to personal tokens, and how many requests each is good for.
    pub access: Vec<(String, usize)>,
}

impl fake::Service for Server {
    fn faults(&mut self) -> &mut Vec<Fault> {
        &mut self.faults
    }

    fn done(&mut self, request: &Request) -> Answer {
        self.seen.push(format!("{} {}", request.method, request.path));
        if request.path == "/api/token/refresh" {
            if request.json() != json!({ "refresh": PERSONAL }) {
                return Answer::Json(401, json!({ "detail": "Token is invalid" }));
            }
            let access = format!("access-{}", self.access.len());
            self.access.push((access.clone(), 3));
            return Answer::Json(200, json!({ "access": access }));
        }
        if !self.lets_in(request.headers.get("authorization")) {
            return Answer::Json(401, json!({ "detail": "Invalid token." }));
        }
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["api", "projects"]) => {
                let title = &request.query["title"];
                let fits =
                    self.projects.iter().filter(|it| it["title"].as_str().unwrap().contains(title.as_str()));
                Answer::Json(200, json!({ "next": null, "results": fits.collect::<Vec<_>>() }))
            }
            ("POST", ["api", "projects"]) => {
                let mut project = request.json();
                project["id"] = (self.projects.len() + 1).into();
                self.projects.push(project.clone());
                Answer::Json(201, project)
            }
            ("GET", ["api", "projects", id]) => {
                match self.projects.iter().find(|it| it["id"].as_u64() == id.parse().ok()) {
                    Some(project) => Answer::Json(200, project.clone()),
                    None => Answer::Json(404, json!({ "detail": "Not found." })),
                }
            }
            ("GET", ["api", "projects", _, "file-uploads"]) => {
                let ids = request.query.get("ids").map(|it| serde_json::from_str::<Vec<usize>>(it).unwrap());
                let asked = |i: &usize| ids.as_ref().is_none_or(|ids| ids.contains(i));
                let files =
                    (0..self.files.len()).filter(asked).map(|i| json!({ "id": i, "file": self.files[i].0 }));
                Answer::Json(200, files.collect())
            }
            ("POST", ["api", "projects", _, "import"]) if request.query.contains_key("commit_to_project") => {
                let start = self.files.len();
                for (_, name, bytes) in request.form() {
                    self.files.push((format!("upload/1/0d7e3cfd-{}", name.unwrap()), bytes));
                }
                Answer::Json(201, json!({ "file_upload_ids": (start..self.files.len()).collect::<Vec<_>>() }))
            }
            ("POST", ["api", "projects", project, "import"]) => {
                let start = self.tasks.len() + 1;
                for mut task in request.json().as_array().unwrap().iter().cloned() {
                    task["id"] = (self.tasks.len() + 1).into();
                    task["project"] = (*project).into();
                    task["annotations"] = json!([]);
                    self.tasks.push(task);
                }
                let ids: Vec<usize> = (start..=self.tasks.len()).collect();
                Answer::Json(201, json!({ "task_ids": ids }))
            }
            ("GET", ["api", "tasks"]) => {
                let (page, size) = (request.query["page"].parse::<usize>().unwrap(), 2);
                let own = self.tasks.iter().filter(|it| it["project"] == request.query["project"].as_str());
                let own: Vec<&Value> = own.collect();
                let page: Vec<&&Value> = own.iter().skip((page - 1) * size).take(size).collect();
                match page.is_empty() && request.query["page"] != "1" {
                    true => Answer::Json(404, json!({ "detail": "Invalid page." })),
                    false => Answer::Json(200, json!({ "total": own.len(), "tasks": page })),
                }
            }
            ("GET", ["api", "users"]) => {
                let user =
                    |id: usize, name: &str| json!({ "id": id, "email": format!("{name}@example.com") });
                Answer::Json(200, json!([user(1, "ann"), user(2, "ben")]))
            }
            _ => Answer::Json(404, json!({ "detail": "no such path" })),
        }
    }
}

impl Server {
    fn lets_in(&mut self, header: Option<&String>) -> bool {
        let Some(header) = header else { return false };
        if *header == format!("Token {TOKEN}") {
            return true;
        }
        let access = header.strip_prefix("Bearer ").unwrap_or_default();
        let Some((_, left)) = self.access.iter_mut().find(|(it, _)| it == access) else { return false };
        *left = left.saturating_sub(1);
        *left > 0
    }
}
