// Every page works without this file; it only makes things quicker. Words come from the page, so that they are translated.
"use strict";

(() => {
  const one = (selector) => document.querySelector(selector);
  const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const root = document.documentElement;
  // A browser that keeps no cookies has no storage either, and a web view may have none.
  const tab = (() => { try { return sessionStorage; } catch { return null; } })();

  // After a form was refused, Reload asks for its page again and does not send the form twice. Links' tokens leave the
  // address bar; history.state keeps the query, so that Reload still finds its way.
  const posted = one("[data-here]:not([data-refused])")?.dataset.here;
  const here = new URL(posted ?? location.href, location.href);
  if (one("[data-strip-token]")) {
    if (here.search) history.replaceState({ search: here.search }, "", here.pathname);
  } else if (posted) {
    history.replaceState(null, "", posted);
  } else if (one("[data-refused='400']") && !location.search && history.state?.search) {
    location.replace(location.pathname + history.state.search);
  }

  // The error summary takes focus; typing goes on to the field it is about.
  const summary = one("#error-summary");
  if (summary) {
    requestAnimationFrame(() => summary.focus()); // after autofocus has had its turn
    summary.addEventListener("keydown", (event) => {
      const types = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
      if (types) one("[aria-invalid='true'], input[autofocus]")?.focus();
    });
  }

  // What was refused is no longer so once it is typed anew. Its words keep their place: nothing moves under the hand.
  all("[aria-invalid]", (input) => input.addEventListener("input", () => {
    input.removeAttribute("aria-invalid");
    const told = one("[aria-invalid]") ? `#error-summary a[href="#${input.id}"]` : "#error-summary";
    all(`#${input.id}-error, ${told}`, (words) => {
      words.classList.add("cleared");
      words.removeAttribute("id"); // else the input is still described by it
    });
  }, { once: true }));

  // One press, one request: a second one would undo a step whose answer is on its way. It counts again when the page
  // comes back, or when nothing came for long.
  const unlock = (form) => {
    delete form.dataset.sent;
    form.removeAttribute("aria-busy");
  };
  addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = form.elements.OTP?.value || "yes";
    form.setAttribute("aria-busy", "true");
    setTimeout(unlock, 60000, form);
    form.querySelectorAll("[data-peek]").forEach((button) => peek(button, false));
  });
  addEventListener("pageshow", () => all("form[data-sent]", unlock));
  // Whoever stopped it and types something else means to send that.
  addEventListener("input", ({ target: { form } }) => {
    if (form?.dataset.sent && form.elements.OTP?.value !== form.dataset.sent) unlock(form);
  });

  // The code: spaces, dashes, words around it and other scripts' digits are forgiven; the last digit submits.
  // Pasting works wherever the focus is.
  all("[data-digits]", (input) => {
    const wanted = Number(input.dataset.digits);
    // Among other numbers, the only one that is as long as a code.
    const whole = new RegExp(`(?:^|[^0-9])([0-9](?:[ \\u00a0\\u202f]?[0-9]){${wanted - 1}})(?![0-9])`, "g");
    const read = () => {
      const typed = input.value.replace(/[٠-٩۰-۹０-９]/g, (digit) => digit.charCodeAt(0) & 15);
      const found = [...typed.matchAll(whole)];
      return (found.length === 1 ? found[0][1] : typed).replace(/[^0-9]/g, "");
    };
    input.addEventListener("input", (event) => {
      if (read().length !== wanted || event.inputType?.startsWith("delete")) return;
      input.value = read();
      input.form.requestSubmit();
    });
    input.addEventListener("change", () => { if (read().length === wanted) input.value = read(); });
    // People are told before it happens (WCAG 2.2, 3.2.2).
    all("[data-by-itself]", (hint) => {
      hint.hidden = false;
      input.setAttribute("aria-describedby", [input.getAttribute("aria-describedby"), hint.id].filter(Boolean).join(" "));
    });
    addEventListener("paste", (event) => {
      if (event.target.closest?.("input")) return;
      input.value = event.clipboardData.getData("text");
      input.focus();
      input.dispatchEvent(new Event("input"));
    });
  });

  // Passwords: show and hide, Caps Lock, strength.
  const peek = (button, show) => {
    const input = document.getElementById(button.getAttribute("aria-controls"));
    input.type = show ? "text" : "password";
    button.firstElementChild.textContent = show ? button.dataset.hide : button.dataset.show;
    button.dataset.peek = show ? "shown" : "";
  };
  all("[data-peek]", (button) => {
    button.hidden = false;
    button.addEventListener("click", () => peek(button, !button.dataset.peek));
  });
  all("input[type='password']", (input) => {
    const hint = input.closest(".field")?.querySelector("[data-caps]");
    const look = (event) => {
      if (hint && event.getModifierState) hint.textContent = event.getModifierState("CapsLock") ? hint.dataset.caps : "";
    };
    input.addEventListener("keydown", look);
    input.addEventListener("keyup", look);
    input.addEventListener("blur", () => { if (hint) hint.textContent = ""; });
  });
  all("[data-strength]", (hint) => {
    const { password, token, name } = hint.closest("form").elements;
    const advice = hint.textContent;
    let timer, told;
    const say = (words, weak = false) => {
      if (hint.textContent !== words) hint.textContent = words;
      hint.classList.toggle("weak", weak);
    };
    const ask = async () => {
      const typed = told = password.value;
      const answer = await fetch(hint.dataset.strength, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ password: typed, token: token?.value, name: name?.value }),
      }).then((response) => response.ok && response.json()).catch(() => null);
      if (typed === password.value) say(answer ? answer.message : advice, answer && answer.score < 2);
    };
    password.addEventListener("input", () => {
      clearTimeout(timer);
      const length = [...password.value].length;
      if (length >= 8) {
        if (password.value !== told) timer = setTimeout(ask, 300);
      } else {
        told = null;
        say(length ? hint.dataset.short : advice);
      }
    });
  });

  // Countdowns: [data-timed] holds words for before and after.
  all("[data-countdown]", (clock) => {
    const end = Date.now() + clock.dataset.countdown * 1000;
    const box = clock.closest("[data-timed]");
    const button = clock.closest("button");
    const two = (number) => String(number).padStart(2, "0");
    const tick = () => {
      const left = Math.max(0, Math.ceil((end - Date.now()) / 1000));
      const hours = Math.floor(left / 3600);
      const minutes = Math.floor(left / 60) % 60;
      const said = (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(left % 60);
      if (clock.textContent !== said) clock.textContent = said;
      if (button) button.disabled = left > 0;
      box.querySelectorAll("[data-before]").forEach((words) => { words.hidden = !left; });
      box.querySelectorAll("[data-after]").forEach((words) => { words.hidden = left > 0; });
      if (left) setTimeout(tick, 500);
    };
    tick();
  });

  // Times in the reader's own zone.
  const localise = (part) => part.querySelectorAll("time[data-local]").forEach((time) => {
    const options = { dateStyle: time.dataset.local === "date" ? "medium" : undefined, timeStyle: "short" };
    try { time.textContent = new Date(time.dateTime).toLocaleString(root.lang, options); } catch { /* the server's words stay */ }
  });
  localise(document);

  if (!navigator.cookieEnabled) {
    all("[data-no-cookies]", (place) => {
      place.className = "notice";
      place.hidden = false;
      place.textContent = place.dataset.noCookies;
    });
  }

  // Where a sign-up letter went is known to this tab alone.
  all("[data-keep-email]", (form) => form.addEventListener("submit", () => {
    for (const name of ["email", "next"]) tab?.setItem(name, form.elements[name]?.value ?? "");
  }));
  const sentTo = one("[data-email-kept]") && tab?.getItem("email");
  if (sentTo) {
    all("[data-email-kept]", (kept) => { kept.hidden = false; });
    all("[data-email-kept] bdi", (place) => { place.textContent = sentTo; });
    all("[data-email-kept] input", (input) => { input.value = tab.getItem(input.name) ?? ""; });
    all("[data-with-email-kept]", (link) => { link.search = new URLSearchParams({ email: sentTo, next: tab.getItem("next") ?? "" }); });
    one("[data-email-unknown]").hidden = true;
    all("form[data-again]", (form) => form.addEventListener("submit", () => tab.setItem("again", "yes")));
    if (tab.getItem("again")) all("[data-sent-again]", (words) => { words.hidden = false; });
    tab.removeItem("again");
  }

  // The address that was typed goes along.
  all("a[data-with-email]", (link) => link.addEventListener("click", () => {
    const email = one("#email").value;
    const query = new URLSearchParams(link.search);
    if (email) query.set("email", email);
    link.search = query;
  }));

  // What a signed-in page showed is not shown again by Back after signing out.
  addEventListener("pageshow", (event) => { if (event.persisted && one("[data-signed-in]")) location.reload(); });

  // Tabs of one browser sign in and out together: a page that waits for the mail goes on, and what a signed-in page
  // shows does not stay.
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("magicauth") : null;
  // Whether a form of this tab has signed out is seen by the page that it leads to: it may have been refused, or have
  // wanted to know first who presses.
  const signsOut = ["/logout", "/account/delete", "/account/email/undo", "/auth/not_me"];
  addEventListener("submit", ({ target }) => {
    if (signsOut.includes(target.getAttribute("action"))) tab?.setItem("signing out", "yes");
  });
  if (one("[data-signed-in]")) {
    channel?.postMessage("signed in");
    if (channel) channel.onmessage = ({ data }) => { if (data === "signed out") location.reload(); };
  } else if (tab?.getItem("signing out") && !one("[data-refused], [data-gone]")) {
    channel?.postMessage("signed out");
  }
  tab?.removeItem("signing out");
  const waiting = one("[data-waiting]")?.dataset.waiting;
  if (waiting) {
    const goOn = () => location.assign(waiting);
    if (channel) channel.onmessage = ({ data }) => { if (data === "signed in") goOn(); };
    document.addEventListener("visibilitychange", async () => {
      if (document.hidden) return;
      // Signed in, that address leads on; to a stranger it is a page, and we stay.
      const answer = await fetch(waiting, { redirect: "manual" }).catch(() => null);
      if (answer?.type === "opaqueredirect") goOn();
    });
  }

  // While the letter is in the queue, ask a few times what has become of it.
  const letter = one("[data-letter='queued']");
  if (letter) {
    const look = async (pauses) => {
      const page = await fetch(location.pathname).then((answer) => answer.text()).catch(() => "");
      const news = new DOMParser().parseFromString(page, "text/html").querySelector("[data-letter]");
      if (news && news.dataset.letter !== "queued") {
        localise(news);
        letter.replaceChildren(...news.childNodes);
      } else if (pauses.length) setTimeout(look, pauses[0], pauses.slice(1));
    };
    setTimeout(look, 1000, [2000, 4000, 8000, 16000]);
  }

  // The list of languages closes as menus do.
  const menu = one("details.languages");
  if (menu) {
    addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
  }

  // A link opened in the browser that asked for it goes on by itself. Last, for the address is clean by now.
  one("form[data-continue]")?.requestSubmit();
})();
