//! Who is asked for what, and who is told which secret.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Asks for a password and takes it.
fn basic(right: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> impl Fn(&Seen) -> Answer + Send + Sync {
    move |seen| match seen.header("authorization") {
        Some(BASIC) => right(seen),
        _ => Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .header("www-authenticate", "Basic realm=\"test\""),
    }
}

/// Asks for a token from `realm` and takes `token`.
fn bearer(
    realm: String,
    token: &'static str,
    right: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync {
    move |seen| match seen.header("authorization") {
        Some(given) if given == format!("Bearer {token}") => right(seen),
        _ => Answer::new(401, "").header(
            "www-authenticate",
            format!(
                "Bearer realm=\"{realm}\",service=\"test service\",scope=\"repository:team/app:pull,push\""
            ),
        ),
    }
}

fn token(answer: &str) -> Server {
    let answer = answer.to_owned();
    Server::start(move |_| Answer::new(200, answer.clone()))
}

/// Returns the `Authorization` of every request, each once.
fn authorizations(server: &Server) -> Vec<Option<String>> {
    let mut all: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    all.dedup();
    all
}

#[test]
fn a_password_is_shown_after_it_is_asked_for() {
    let image = image();
    let server = Server::start(basic(registry(&image)));
    let bench = Bench::new().with_password(&server.name());
    bench.pull(&server).expect("pulled");
    assert_eq!(authorizations(&server), [None, Some(BASIC.to_owned())]);

    let error = Bench::new().pull(&server).expect_err("no password");
    let expected = format!("{}/team/app:1: 401 Unauthorized: authentication required", server.name());
    assert_eq!(cause(&error).to_string(), expected);
    assert!(error.registry().is_some_and(RegistryError::is_denied));

    let mut bench = Bench::new();
    let wrong = Credential::Password { username: "me".to_owned(), password: "hunter2".to_owned() };
    bench.options.keyring = Keyring::default().with(&server.name(), wrong.clone());
    let error = bench.pull(&server).expect_err("a wrong password");
    assert_eq!(cause(&error).to_string(), expected);
    assert!(!format!("{error:?}").contains("hunter2"));
    // Another that matches too is tried next.
    bench.options.keyring = Keyring::default().with(&server.name(), wrong).with(&server.name(), password());
    bench.pull(&server).expect("pulled");
}

#[test]
fn a_token_is_fetched_for_this_repository_and_used_for_all_of_it() {
    let image = image();
    for (answer, credential) in [
        (r#"{"token":"t1"}"#, None),
        (r#"{"access_token":"t1","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#, Some(password())),
    ] {
        let tokens = token(answer);
        let server =
            Server::start(bearer(format!("http://{}/token?x=y", tokens.name()), "t1", registry(&image)));
        let mut bench = Bench::new();
        if let Some(credential) = &credential {
            bench.options.keyring = Keyring::default().with(&server.name(), credential.clone());
        }
        bench.pull(&server).expect("pulled");
        let seen = tokens.seen();
        let [asked] = seen.as_slice() else { panic!("{seen:?}") };
        // Not what the challenge asks for: pulling needs no right to push.
        let scope = "/token?x=y&scope=repository:team/app:pull&service=test%20service";
        assert_eq!(asked.line(), format!("GET {scope}"));
        assert_eq!(asked.header("authorization"), credential.map(|_| BASIC));
        assert_eq!(authorizations(&server), [None, Some("Bearer t1".to_owned())]);
    }
}

#[test]
fn a_token_that_has_ended_is_renewed() {
    let image = image();
    let issued = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&issued);
    let tokens = Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Answer::new(200, format!(r#"{{"token":"t{number}"}}"#))
    });
    let right = registry(&image);
    let realm = format!("http://{}/token", tokens.name());
    let (uses, last) = (AtomicUsize::new(0), issued);
    let server = Server::start(move |seen| {
        let current = format!("Bearer t{}", last.load(Ordering::Relaxed));
        // Each token serves one request.
        if seen.header("authorization") == Some(&current) && uses.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
            return right(seen);
        }
        uses.store(0, Ordering::Relaxed);
        Answer::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\""))
    });
    let mut bench = Bench::new();
    bench.options.parallel = 1;
    bench.pull(&server).expect("pulled");
    assert_eq!(tokens.seen().len(), 4);
}

#[test]
fn an_identity_token_is_exchanged_and_never_sent_to_the_registry() {
    let image = image();
    let tokens = token(r#"{"access_token":"t1"}"#);
    let server = Server::start(bearer(format!("http://{}/oauth2", tokens.name()), "t1", registry(&image)));
    let mut bench = Bench::new();
    let identity = Credential::IdentityToken("id&entity".to_owned());
    bench.options.keyring = Keyring::default().with(&server.name(), identity);
    bench.pull(&server).expect("pulled");
    let seen = tokens.seen();
    let [asked] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(asked.line(), "POST /oauth2");
    assert_eq!(
        asked.body,
        "grant_type=refresh_token&client_id=podrun&refresh_token=id%26entity\
         &scope=repository:team/app:pull&service=test%20service"
    );
    assert_eq!(authorizations(&server), [None, Some("Bearer t1".to_owned())]);

    let server = Server::start(bearer("http://127.0.0.1:1/".to_owned(), "given", registry(&image)));
    let mut bench = Bench::new();
    let given = Credential::RegistryToken("given".to_owned());
    bench.options.keyring = Keyring::default().with(&server.name(), given);
    bench.pull(&server).expect("pulled");
    assert_eq!(authorizations(&server), [None, Some("Bearer given".to_owned())]);
}

#[test]
fn a_token_server_that_refuses_is_told_of() {
    let image = image();
    for (answer, expected) in [
        (
            Answer::new(401, r#"{"errors":[{"message":"incorrect username or password"}]}"#),
            "token: 401 Unauthorized: incorrect username or password",
        ),
        (Answer::new(200, "{}"), "token: it is empty"),
        (Answer::new(200, "<html>"), "token: it is not the JSON that it should be"),
        (Answer::new(200, r#"{"token":"a\r\nX: b"}"#), "token: it has characters that cannot be sent"),
    ] {
        let tokens = Server::start(move |_| answer.clone());
        let server = Server::start(bearer(format!("http://{}/", tokens.name()), "t1", registry(&image)));
        let bench = Bench::new().with_password(&server.name());
        let error = bench.pull(&server).expect_err(expected);
        assert_eq!(cause(&error).to_string(), expected);
    }
}

#[test]
fn passwords_go_to_no_other_host_than_the_registry_s() {
    let image = image();
    // Another host: another address of this machine.
    let evil = Server::at([127, 0, 0, 2].into(), None, |_| Answer::new(200, r#"{"token":"t1"}"#));
    let realm = format!("http://{}/token", evil.name());
    let server = Server::start(bearer(realm.clone(), "t1", registry(&image)));
    let bench = Bench::new().with_password(&server.name());
    let error = bench.pull(&server).expect_err("a realm elsewhere");
    assert!(matches!(cause(&error), RegistryError::Realm { .. }), "{error:?}");
    assert_eq!(evil.seen(), []);

    // The administrator may allow it.
    let text = format!("[registry.{:?}]\nplain-http = true\nauth-hosts = [\"127.0.0.2\"]", server.name());
    let client = Client::with_patience(Registries::from_toml(&text).expect("valid"), PATIENCE);
    bench.pull_with(&client, &format!("{}/team/app:1", server.name())).expect("pulled");
    assert_eq!(authorizations(&evil), [Some(BASIC.to_owned())]);
    // And without a password there is nothing to keep.
    Bench::new().pull(&server).expect("pulled");
    assert_eq!(authorizations(&evil), [None]);
}

/// Serves `?moved` as what it was before, and leads there from blobs.
fn moving(
    base: String,
    right: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync {
    move |seen| match seen.target.strip_suffix("?moved") {
        Some(target) => right(&seen.retargeted(target)),
        None if seen.target.contains("/blobs/") => {
            Answer::new(307, "moved").header("location", format!("{base}{}?moved", seen.target))
        }
        None => right(seen),
    }
}

/// Returns the `Authorization` of each request that was led on.
fn moved(server: &Server) -> Vec<Option<String>> {
    let seen = server.seen().into_iter().filter(|seen| seen.target.ends_with("?moved"));
    seen.map(|seen| seen.header("authorization").map(str::to_owned)).collect()
}

#[test]
fn redirects_to_another_origin_go_without_credentials() {
    let image = image();
    // The same host with another port is another origin.
    let store = Server::start(moving(String::new(), registry(&image)));
    let server = Server::start(basic(moving(format!("http://{}", store.name()), registry(&image))));
    Bench::new().with_password(&server.name()).pull(&server).expect("pulled");
    assert_eq!(moved(&store), [None, None, None]);
    assert_eq!(moved(&server), []);
    // The control: to the same origin they go along.
    let server = Server::start(basic(moving(String::new(), registry(&image))));
    Bench::new().with_password(&server.name()).pull(&server).expect("pulled");
    assert_eq!(moved(&server), vec![Some(BASIC.to_owned()); 3]);
}

#[test]
fn a_blob_store_that_asks_for_credentials_gets_none() {
    let image = image();
    // Its answer is a registry's, and its realm one that the registry itself could name: another port of its host.
    let tokens = token(r#"{"token":"t1"}"#);
    for challenge in
        ["Basic realm=\"give\"".to_owned(), format!("Bearer realm=\"http://{}/\"", tokens.name())]
    {
        let evil = Server::start(move |_| Answer::new(401, "").header("www-authenticate", challenge.clone()));
        let (right, base) = (registry(&image), format!("http://{}", evil.name()));
        let server = Server::start(basic(move |seen| {
            if seen.target.contains("/blobs/") {
                Answer::new(302, "").header("location", format!("{base}{}", seen.target))
            } else {
                right(seen)
            }
        }));
        let bench = Bench::new().with_password(&server.name());
        let error = bench.pull(&server).expect_err("denied");
        assert!(matches!(cause(&error), RegistryError::Denied { .. }), "{error:?}");
        let seen = evil.seen();
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|seen| seen.header("authorization").is_none()), "{seen:?}");
        assert_eq!(tokens.seen(), []);
    }
}
