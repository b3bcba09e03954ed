//! The Hugging Face hub, where it is reachable.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::catalog::Hub;
use crate::{package, process};

/// Downloads the repository's files; a large file is compared with the checksum that the hub announces.
pub fn download(hub: &Hub, folder: &Path) -> Result<()> {
    ensure!(process::find("curl").is_some(), "curl is not found");
    // The variable is the hub's own; a mirror sets it.
    let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
    for file in hub.files {
        let url = format!(
            "{}/{}/resolve/main/{file}",
            endpoint.trim_end_matches('/'),
            hub.repository
        );
        let mut head = curl();
        let headers = process::capture(head.args(["--silent", "--show-error", "--head", &url]))
            .with_context(|| format!("{url} cannot be reached"))?;
        let path = folder.join(file);
        eprintln!("fetching {url}");
        process::stream(
            curl()
                .arg("--progress-bar")
                .arg("--output")
                .arg(&path)
                .arg(&url),
        )?;
        if let Some(sha256) = announced_sha256(&headers) {
            package::verify(&path, sha256)?;
        }
    }
    Ok(())
}

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--fail", "--location", "--connect-timeout", "10"]);
    command
}

/// The hub answers for a large file with its SHA-256 in quotes; for a small one with a shorter git hash.
fn announced_sha256(headers: &str) -> Option<&str> {
    headers.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        let value = value.trim().trim_matches('"');
        (key.eq_ignore_ascii_case("x-linked-etag") && value.len() == 64).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_large_file_is_read_from_the_first_answer() {
        let sha256 = "ab".repeat(32);
        let headers = format!(
            "HTTP/2 302\r\nX-Linked-ETag: \"{sha256}\"\r\n\r\nHTTP/2 200\r\netag: \"x\"\r\n"
        );
        assert_eq!(announced_sha256(&headers), Some(sha256.as_str()));
        assert_eq!(
            announced_sha256("HTTP/2 200\r\nX-Linked-ETag: \"abcdef\"\r\n"),
            None
        );
    }
}
