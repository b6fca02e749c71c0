// Signing in with a token. It is shown in the place of the page that was asked for, which follows as soon as it worked.

import { html, useState } from "../lib/html.js";
import { signIn } from "../lib/api.js";
import { Button, Failure, Heading, TextField, useAction } from "../lib/parts.js";

export default function SignIn() {
    const [token, setToken] = useState("");
    const enter = useAction(() => signIn(token.trim()));
    const submit = (event) => {
        event.preventDefault();
        if (token.trim()) enter.run();
    };
    const hint = html`Whoever runs this daemon makes one with <code>copal token add NAME --role viewer</code> (or operator, admin).`;
    // The hidden name lets password managers keep the token.
    return html`<form class="signin" onSubmit=${submit}>
        <${Heading} title="Sign in">Sign in<//>
        <input type="text" name="username" autocomplete="username" value="copal" hidden />
        <${TextField} label="Token" hint=${hint} type="password" value=${token} autocomplete="current-password" autofocus required onInput=${setToken} />
        <${Failure} problem=${enter.problem} />
        <${Button} type="submit" kind="primary" busy=${enter.busy} why=${token.trim() ? undefined : "Paste a token first."}>Sign in<//>
    </form>`;
}
