// preact with htm bound to it: templates without a compiler. Whatever is put into one is text, never markup.

import { createContext, Fragment, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export {
    useCallback, useContext, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useRef, useState,
} from "../vendor/hooks.js";
export { createContext, Fragment, render };
export const html = htm.bind(h);
