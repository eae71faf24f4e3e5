/** `<live-log-token root="">`: asks for a token once the server wants one, and begins again with it. */

import { address } from "./address.js";
import { element } from "./dom.js";
import { keepToken, tokenFor } from "./tokens.js";

class LiveLogToken extends HTMLElement {
  connectedCallback() {
    addEventListener("livelog-unauthorized", this.#ask);
  }

  disconnectedCallback() {
    removeEventListener("livelog-unauthorized", this.#ask);
  }

  #ask = () => {
    if (this.firstChild) return;
    const root = this.getAttribute("root") || "/";
    const had = Boolean(tokenFor(address(root)));
    const input = element("input", "ll-filter");
    Object.assign(input, { type: "password", name: "token", autocomplete: "off", required: true });
    input.setAttribute("aria-label", "Token");
    const sentence = had ? "The token is not valid, or is over." : "A token is needed to see logs here.";
    const send = element("button", "ll-button", "Show");
    const form = element("form", "ll-token", element("label", "", sentence, " ", input), " ", send);
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // it must not become part of an address
      keepToken(root, input.value.trim());
      location.reload();
    });
    this.replaceChildren(form);
    input.focus();
  };
}

customElements.define("live-log-token", LiveLogToken);
