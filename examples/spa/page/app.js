// The access token lives in this variable and nowhere else. The refresh token is a cookie of the API's host that no script can
// read; a reload asks for a new access token with it.
let access = null;
let timer;
let renewals = 0;

const api = document.querySelector("meta[name=api]").content;
const at = (id) => document.getElementById(id);

/** Why there is no good answer: a status, and the server's reason. */
class Refusal extends Error {
  constructor(status, reason) {
    super(status ? `${status}: ${reason}` : reason);
    this.status = status;
  }
}

async function ask(method, path, options) {
  let answer;
  try {
    answer = await fetch(api + path, { method, cache: "no-store", ...options });
  } catch {
    throw new Refusal(0, `No answer from ${api}. Does the browser know its certificate?`);
  }
  const text = await answer.text();
  let body = null;
  try {
    body = text && JSON.parse(text);
  } catch {
    // A body that is none of the API's: the status says enough.
  }
  if (!answer.ok) {
    throw new Refusal(answer.status, body?.error_description ?? body?.error ?? body?.title ?? answer.statusText);
  }
  return body;
}

/**
 * What sets or uses the cookies, one at a time over all tabs: two refreshes at once would each spend the same token, and a
 * refresh beside a sign-out could bring the session's cookies back.
 */
function session(method, path, body) {
  return navigator.locks.request("session", () => ask(method, path, { body, credentials: "include" }));
}

function keep(answer) {
  access = answer.access_token;
  clearTimeout(timer);
  // Well before it expires. A timer that comes too late, in a tab that slept, is no harm: see `call`.
  timer = setTimeout(() => renew().catch(show), answer.expires_in * 750);
  at("until").textContent = new Date(Date.now() + answer.expires_in * 1000).toLocaleTimeString();
}

async function renew() {
  try {
    keep(await session("POST", "/session/refresh"));
    at("renewals").textContent = ++renewals;
  } catch (refusal) {
    // 400: there is no session any more. All else is an outage, and the session may well be alive.
    if (refusal.status === 400) signedOut();
    else if (access) timer = setTimeout(() => renew().catch(show), 5000);
    throw refusal;
  }
}

/** A call with the access token. If that has expired or was called back, another one is asked for, once. */
async function call(method, path) {
  const used = access;
  const once = () => ask(method, path, { credentials: "omit", headers: { authorization: `Bearer ${access}` } });
  try {
    return await once();
  } catch (refusal) {
    if (refusal.status !== 401) throw refusal;
    // Unless another call has done so meanwhile.
    if (access === used) await renew();
    return once();
  }
}

function show(refusal) {
  at("error").textContent = refusal.message;
  at("error").hidden = false;
}

function signedOut() {
  access = null;
  clearTimeout(timer);
  at("signed-in").hidden = true;
  at("answer").hidden = true;
  // Nothing of this user stays behind for the next.
  at("answer").textContent = "";
  at("devices").replaceChildren();
  at("sign-in").hidden = false;
  at("status").textContent = "Signed out";
}

// Other tabs go on with whoever is signed in now, and not with what they show of somebody else.
const tabs = new BroadcastChannel("session");
tabs.onmessage = () => location.reload();

async function signedIn() {
  at("sign-in").hidden = true;
  at("signed-in").hidden = false;
  at("status").textContent = "Signed in";
  await devices();
}

async function devices() {
  const { sessions } = await call("GET", "/sessions");
  at("devices").replaceChildren(...sessions.map(device));
}

function device({ id, device, network, last_used_at, current }) {
  const item = document.createElement("li");
  const text = document.createElement("div");
  const detail = document.createElement("small");
  const end = document.createElement("button");
  // As text, never as HTML: names of devices are whatever somebody has sent.
  text.textContent = `${device || "A device"}${current ? " (this one)" : ""}`;
  detail.textContent = `${network}, last used ${new Date(last_used_at * 1000).toLocaleTimeString()}`;
  text.append(detail);
  end.textContent = "End";
  end.className = "plain";
  end.ariaLabel = `End the session of ${text.firstChild.textContent}`;
  end.onclick = guarded(end, async () => {
    await call("DELETE", `/sessions/${encodeURIComponent(id)}`);
    if (current) signedOut();
    else await devices();
  });
  item.dataset.id = id;
  item.dataset.current = current;
  item.append(text, end);
  return item;
}

/** Runs an action with its button switched off, and shows what went wrong. */
function guarded(button, action) {
  return async (event) => {
    event.preventDefault();
    at("error").hidden = true;
    button.disabled = true;
    await action().catch(show);
    button.disabled = false;
  };
}

at("sign-in").onsubmit = guarded(at("submit"), async () => {
  const form = new URLSearchParams(new FormData(at("sign-in")));
  form.set("device_name", `Browser on ${navigator.userAgentData?.platform || "some system"}`);
  at("password").value = "";
  keep(await session("POST", "/session", form));
  tabs.postMessage("signed in");
  await signedIn();
});
at("call").onclick = guarded(at("call"), async () => {
  at("answer").textContent = JSON.stringify(await call("GET", "/me"), null, 2);
  at("answer").hidden = false;
});
at("reload").onclick = guarded(at("reload"), devices);
at("sign-out").onclick = guarded(at("sign-out"), async () => {
  await session("DELETE", "/session");
  tabs.postMessage("signed out");
  signedOut();
});

// A reload, or a new tab: whoever has a session goes on with it. Whoever has none is asked for a password, without a complaint.
renew().then(signedIn).catch((refusal) => {
  if (refusal.status !== 400) show(refusal);
  if (!access) signedOut();
});
